from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from maxaffine._learning.orthogonal_templates import squared_cosines, squared_products
from tests.learning.oracles import pair_sum

MEASURES = {"products": squared_products, "cosines": squared_cosines}


def _rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("compare", MEASURES)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 7), features=st.integers(1, 6), scale=st.floats(1e-3, 1e3))
def test_equals_the_double_loop(compare: str, seed: int, classes: int, features: int, scale: float) -> None:
    rows = scale * _rows(seed, classes, features)
    expected = pair_sum(rows, compare)
    assert MEASURES[compare](rows).item() == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("compare", MEASURES)
def test_the_double_loop_catches_a_counted_diagonal(compare: str) -> None:
    rows = _rows(0, 4, 5)
    with_diagonal = (rows @ rows.T).square().sum() if compare == "products" else squared_cosines(rows) + 4
    assert with_diagonal.item() != pytest.approx(pair_sum(rows, compare), rel=1e-3)


@pytest.mark.parametrize("compare", MEASURES)
def test_derivatives_equal_finite_differences(compare: str) -> None:
    rows = _rows(1, 2, 4, 3).requires_grad_()
    assert gradcheck(MEASURES[compare], rows)
    assert gradgradcheck(MEASURES[compare], rows)


@pytest.mark.parametrize("compare", MEASURES)
def test_batches_are_separate(compare: str) -> None:
    rows = _rows(2, 3, 4, 5)
    expected = [pair_sum(one, compare) for one in rows]
    assert MEASURES[compare](rows).tolist() == pytest.approx(expected, rel=1e-12)


def test_rows_of_zeros_count_nothing_and_pass_no_gradient() -> None:
    rows = _rows(3, 4, 5)
    rows[1] = 0
    rows.requires_grad_()
    value = squared_cosines(rows)
    assert value.item() == pytest.approx(pair_sum(rows.detach(), "cosines"))
    (gradient,) = torch.autograd.grad(value, rows, create_graph=True)
    assert gradient.isfinite().all() and not gradient[1].any() and gradient[0].any()
    (second,) = torch.autograd.grad(gradient.square().sum(), rows)
    assert second.isfinite().all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18])
def test_cosines_do_not_depend_on_the_scale(scale: float) -> None:
    rows = _rows(4, 3, 4).float()
    assert squared_cosines(scale * rows).item() == pytest.approx(squared_cosines(rows).item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    rows = (30 * _rows(5, 3, 100)).to(dtype)
    value = squared_products(rows)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(pair_sum(rows, "products"), rel=1e-5)
