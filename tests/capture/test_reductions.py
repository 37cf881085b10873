"""Entries reduced by a number that they share, written in order, compared with a table, or given another sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._capture import check_rule
from tests.contracts.case import beside
from tests.zoo.networks import Net

X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PLACES = torch.tensor([0, 1, 0, 2, 2, 1])
GRID = torch.tensor([[0, 0, 2], [1, 0, 1]])
MASK = torch.tensor([True, False, True, True, False, False])
LENGTHS = torch.tensor([2, 1, 3])
KNOTS = torch.tensor([-1.0, 0.0, 0.5])


def net(function: Callable[..., Any], **parts: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = {"a": nn.Linear(6, 6), "b": nn.Linear(6, 6), "c": torch.randn(6)}
        layers |= {"knots": KNOTS, "rows": KNOTS + torch.arange(6)[:, None] / 4}
        return Net(function, **(layers | parts))


def scattered(reduce: str, include_self: bool) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: m.a(x).scatter_reduce(
        1, PLACES.expand(x.shape[0], -1), m.b(x), reduce, include_self=include_self
    )


def from_the_third(m: Any, x: Tensor) -> Tensor:
    offsets = torch.tensor([2, 3, 6]).expand(x.shape[0], -1).contiguous()
    return torch.segment_reduce(m.a(x), "sum", offsets=offsets, axis=1)


def segments(reduce: str, initial: float | None = None, lengths: Tensor = LENGTHS) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: torch.segment_reduce(
        m.a(x), reduce, lengths=lengths.expand(x.shape[0], -1), axis=1, initial=initial
    )


def counted_from_the_start(m: Any, x: Tensor) -> Tensor:
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), LENGTHS.cumsum(0)])
    return torch.segment_reduce(m.a(x), "min", offsets=offsets.expand(x.shape[0], -1), axis=1)


def along_the_last_axis(m: Any, x: Tensor) -> Tensor:
    index = GRID.expand(x.shape[0], -1, -1)
    return m.a(x).view(-1, 2, 3).scatter_reduce(-1, index, m.b(x).view(-1, 2, 3), "amax", include_self=False)


def of_rows(m: Any, x: Tensor) -> Tensor:
    rows = m.b(x).view(-1, 3, 2)
    return m.a(x).view(-1, 3, 2).index_reduce(1, torch.tensor([2, 0, 2]), rows, "amin")


def counted_within_a_sample(m: Any, x: Tensor) -> Tensor:
    mask = x > 0
    return torch.where(mask, m.a(x).gather(1, (mask.cumsum(1) - 1).clamp(min=0)), x)


def every(*functions: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Several of a kind in one module."""
    return lambda m, x: beside(*(function(m, x) for function in functions))


SCATTERED = {
    f"{reduce}{'' if include_self else '_alone'}": scattered(reduce, include_self)
    for reduce in ("sum", "mean", "amax", "amin")
    for include_self in (True, False)
}
INDEXED = {
    "amax": lambda m, x: m.a(x).index_reduce(1, PLACES, m.b(x), "amax"),
    "mean_alone": lambda m, x: m.a(x).index_reduce(1, PLACES, m.b(x), "mean", include_self=False),
    "rows": of_rows,
}
SEGMENTED = {
    **{reduce: segments(reduce) for reduce in ("sum", "mean", "max", "min")},
    **{f"{reduce}_from": segments(reduce, 0.1) for reduce in ("sum", "mean", "max", "min")},
    "from_the_third_entry": from_the_third,
    "without_entries": segments("mean", 0.5, torch.tensor([2, 0, 4])),
    "offsets": counted_from_the_start,
}
SIGNED = {
    "scaled": lambda m, x: torch.ldexp(m.a(x), PLACES),
    "of_a_constant": lambda m, x: torch.copysign(m.a(x), m.c),
    "of_a_number": lambda m, x: torch.copysign(m.a(x), -2.0),
    "constant": lambda m, x: torch.copysign(m.c, m.a(x)) + x,
    "of_another": lambda m, x: torch.copysign(m.a(x), m.b(x)),
    "bit": lambda m, x: torch.where(m.a(x).signbit(), m.b(x), x),
}
SEARCHED = {
    "plain": lambda m, x: x * torch.searchsorted(m.knots, m.a(x)),
    "right": lambda m, x: x * torch.searchsorted(m.knots, m.a(x), side="right", out_int32=True),
    "unsorted": lambda m, x: x * torch.searchsorted(m.knots.flip(0), x, sorter=torch.tensor([2, 1, 0])),
    "rows": lambda m, x: m.a(x) * torch.searchsorted(m.rows.repeat(x.shape[0], 1, 1), x[:, :, None])[..., 0],
}
EXACT: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "scattered_sums": every(*(function for name, function in SCATTERED.items() if name[0] != "a")),
    "scattered_extremes": every(*(function for name, function in SCATTERED.items() if name[0] == "a")),
    "scattered_along_the_last_axis": along_the_last_axis,
    "scattered_into_constants": every(
        lambda m, x: x.scatter_reduce(1, PLACES.expand(x.shape[0], -1), m.c.expand(x.shape[0], -1), "amin"),
        lambda m, x: x.new_zeros(x.shape[0], 4).scatter_reduce(
            1, PLACES.expand(x.shape[0], -1), m.a(x), "amax", include_self=False
        ),
    ),
    "scattered_by_the_input": lambda m, x: x.scatter_reduce(1, (m.a(x) > 0).long(), m.b(x), "amax"),
    "indexed": every(*INDEXED.values()),
    "segmented": every(*SEGMENTED.values()),
    "signed": every(*SIGNED.values()),
    "searched": every(*SEARCHED.values()),
    "masked_within_a_sample": counted_within_a_sample,
}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str) -> None:
    """Against the untouched module in both precisions: values, Jacobian, transpose; codes define the pieces."""
    check_rule(net(EXACT[name]), torch.zeros(2, 6))


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "scatter_prod": (scattered("prod", True), "multiplies.*both depend"),
    "index_prod": (lambda m, x: x.index_reduce(1, PLACES, m.a(x), "prod"), "multiplies.*both depend"),
    "segment_prod": (segments("prod"), "multiplies.*both depend"),
    "over_the_batch": (
        lambda m, x: x.scatter_reduce(0, torch.zeros_like(x, dtype=torch.int64), m.a(x), "amax"),
        "along the axis of the samples.*cure: reduce along another axis",
    ),
    "into_a_part": (
        lambda m, x: x.view(-1, 2, 3).scatter_reduce(
            1, GRID[:, :2].expand(x.shape[0], -1, -1), x.view(-1, 2, 3), "amax"
        ),
        "a part of the other axes.*cure: .*as large as the result",
    ),
    "masked_by_the_input": (lambda m, x: x.masked_scatter(x > 0, m.a(x)), "in order over the whole batch.*cumsum"),
    "masked_from_other_samples": (lambda m, x: x.masked_scatter(MASK, m.a(x)), "in order.*as many entries per sample"),
    "masked_from_constants": (lambda m, x: x.masked_scatter(MASK, m.c.repeat(9)), "in order over the whole batch"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, words = REFUSED[name]
    with pytest.raises(ma.NotPiecewiseAffine, match=f"(?s){words}"):
        ma.capture(net(function).double(), X)


def test_ties_go_to_what_stands_there_first() -> None:
    """The lowest piece wins: the entry itself, then source entries in order."""
    index = torch.tensor([[1, 1]])
    module = Net(lambda m, x: x[:, :2].scatter_reduce(1, index.expand(x.shape[0], -1), x[:, 2:], "amax"))
    network = ma.capture(module, X[:, :4])
    entries = torch.tensor([[0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 0, 2], [0, 1, 0, 0]], dtype=torch.float64)
    assert network.codes(entries)["amax"].unpack().tolist() == [[0, 0], [0, 1], [0, 2], [0, 0]]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zeros_have_a_sign(zero: float) -> None:
    module = net(SIGNED["constant"], a=nn.Identity()).double()
    x = torch.full((3, 6), zero, dtype=torch.float64)
    assert ma.capture(module, X).verify(module, x).exact


class TestPartitions:
    """The same pieces along a line, around an input and on a plane."""

    @pytest.mark.parametrize("function", [SCATTERED["amax"], SCATTERED["amin_alone"], SIGNED["of_a_constant"]])
    def test_planes(self, function: Callable[..., Any]) -> None:
        module = net(function).double()
        found = ma.partition.plane(ma.capture(module, X), X, extent=1.0, progress=False)
        assert found.verify(module, samples=300).exact and found.regions > 1

    @pytest.mark.parametrize("function", [INDEXED["amax"], SIGNED["of_another"], SEARCHED["right"]])
    def test_lines_and_regions(self, function: Callable[..., Any]) -> None:
        """A region ends, on the line to another input, where the line's first piece does."""
        module = net(function).double()
        network = ma.capture(module, X)
        pieces = ma.partition.line(network, X[:1], X[1:2])
        assert pieces.verify(module).exact
        found = ma.partition.region(network, X[:1], output=0)
        around = pieces.breakpoints[1] + torch.tensor([-1e-2, 1e-2], dtype=torch.float64)
        assert found.contains(pieces.points(around)).tolist() == [True, False]
