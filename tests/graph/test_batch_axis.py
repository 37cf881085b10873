"""Where a value keeps its samples: to_front and from_front are inverse, and gather what belongs to one sample."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maxaffine._graph import BatchAxis

sizes = st.integers(1, 3)


@st.composite
def placed(draw: st.DrawFn) -> tuple[BatchAxis, int, Tensor]:
    """An axis that holds outer x samples x inner entries, the number of samples, and a tensor of distinct numbers."""
    before, after = draw(st.lists(sizes, max_size=2)), draw(st.lists(sizes, max_size=2))
    outer, batch, inner = draw(sizes), draw(sizes), draw(sizes)
    shape = (*before, outer * batch * inner, *after)
    numbers = torch.arange(torch.Size(shape).numel()).reshape(shape)
    return BatchAxis(len(before), outer, inner), batch, numbers


def belongs_to(axis: BatchAxis, batch: int, sample: int) -> list[int]:
    """Entries of the axis that are one sample's, read as outer x N x inner."""
    return [(outer * batch + sample) * axis.inner + inner for outer in range(axis.outer) for inner in range(axis.inner)]


@given(placed())
def test_to_front_gathers_each_sample(case: tuple[BatchAxis, int, Tensor]) -> None:
    axis, batch, tensor = case
    front = axis.to_front(tensor)
    assert front.shape == (batch, *axis.units(tensor.shape))
    for sample in range(batch):
        own = tensor.index_select(axis.dim, torch.tensor(belongs_to(axis, batch, sample)))
        assert torch.equal(front[sample].flatten(), own.flatten())


@given(placed(), st.integers(0, 2))
def test_from_front_undoes_to_front(case: tuple[BatchAxis, int, Tensor], lead: int) -> None:
    axis, batch, tensor = case
    rows = torch.stack([tensor + 1000 * row for row in range(2)]) if lead else tensor
    rows = rows.unsqueeze(0) if lead == 2 else rows
    front = axis.to_front(rows, lead)
    assert front.shape == (*rows.shape[:lead], batch, *axis.units(tensor.shape))
    assert torch.equal(axis.from_front(front, tensor.shape, lead), rows)


def test_the_first_axis_costs_nothing() -> None:
    tensor = torch.zeros(4, 3)
    assert BatchAxis().to_front(tensor) is tensor
    assert BatchAxis().from_front(tensor, tensor.shape) is tensor


def test_units_keep_the_order_of_the_axes() -> None:
    assert BatchAxis(1).units((5, 2, 3)) == (5, 3)
    assert BatchAxis(0, 2, 3).units((12, 7)) == (2, 3, 7)
    assert BatchAxis(1, 1, 3).units((5, 6)) == (5, 3)
