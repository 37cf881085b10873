"""Max-affine regression: planted splines, stationary points, what convexity forbids, and bad samples."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maxaffine import BadInput, MaxAffineSpline, ShapeMismatch
from maxaffine._spline import fit_differences


def inputs(count: int, features: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def loss(spline: MaxAffineSpline, x: Tensor, y: Tensor) -> float:
    return float((spline(x)[:, 0].detach() - y).square().sum())


def affine_loss(x: Tensor, y: Tensor) -> float:
    rows = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    return float((rows @ torch.linalg.pinv(rows) @ y - y).square().sum())


@pytest.mark.parametrize("features", [1, 2, 4])
def test_a_planted_spline_is_found(features: int) -> None:
    x = inputs(600, features)
    planted = MaxAffineSpline(
        torch.stack([torch.zeros(features), torch.ones(features), -2 * torch.ones(features)])[None].double(),
        torch.tensor([[0.0, -0.2, -0.3]], dtype=torch.float64),
    )
    y = planted(x)[:, 0].detach()
    assert loss(MaxAffineSpline.from_samples(x, y, 3), x, y) < 1e-12 * len(x)
    assert loss(MaxAffineSpline.from_samples(x, y, 2), x, y) > 1e-3 * len(x)


def partitions(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Of all cuts of sorted samples into three runs: least loss of the affine fits, and of their maximum."""
    order = x[:, 0].argsort()
    rows, y = torch.stack([x[order, 0], torch.ones(len(x), dtype=x.dtype)], dim=1), y[order]
    fits = {(a, b): torch.linalg.pinv(rows[a:b]) @ y[a:b] for a, b in itertools.combinations(range(len(x) + 1), 2)}
    losses = {run: float((rows[slice(*run)] @ fit - y[slice(*run)]).square().sum()) for run, fit in fits.items()}
    apart, together = [], []
    for a, b in itertools.combinations(range(1, len(x)), 2):
        runs = (0, a), (a, b), (b, len(x))
        apart.append(sum(losses[run] for run in runs))
        highest = (rows @ torch.stack([fits[run] for run in runs], dim=1)).amax(dim=1)
        together.append(float((highest - y).square().sum()))
    return min(apart), min(together)


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_of_the_line_gives_a_better_maximum(seed: int) -> None:
    x = inputs(36, 1, seed)
    noise = torch.randn(36, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = x[:, 0].square() + 0.03 * noise
    bound, best = partitions(x, y)
    # Nothing with three pieces is below the bound, and the best maximum of three fits is hardly better than ours.
    assert bound * (1 - 1e-9) <= loss(MaxAffineSpline.from_samples(x, y, 3), x, y) <= 1.02 * best
    assert loss(MaxAffineSpline.from_samples(x, y, 2), x, y) > 1.02 * best


@settings(max_examples=12)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_more_pieces_cost_nothing_and_one_is_least_squares(seed: int, features: int) -> None:
    x = inputs(150, features, seed)
    y = x.square().sum(1) + 0.1 * torch.randn(150, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    one, few, many = (loss(MaxAffineSpline.from_samples(x, y, pieces), x, y) for pieces in (1, 3, 6))
    assert one == pytest.approx(affine_loss(x, y), rel=1e-9)
    assert many <= few * 1.02 and few <= one * (1 + 1e-9)


def test_of_concave_values_nothing_convex_is_nearer_than_an_affine_function() -> None:
    x = inputs(400, 2)
    y = -x.square().sum(1)
    assert loss(MaxAffineSpline.from_samples(x, y, 8), x, y) == pytest.approx(affine_loss(x, y), rel=2e-2)
    [both] = fit_differences(x, y[:, None], 2, 8, steps=100, tolerance=1e-6, progress=False)
    values, _ = both(torch.cat([x, torch.ones_like(x[:, :1])], dim=1))
    assert float((values - y).square().sum()) < 0.05 * affine_loss(x, y)


def test_scales_and_levels_change_nothing() -> None:
    x = inputs(300, 2)
    y = torch.stack([x.square().sum(1), x.abs().sum(1)], dim=1)
    spline = MaxAffineSpline.from_samples(x, y, 5)
    scale, level = torch.tensor([1e5, 1e-4], dtype=torch.float64), torch.tensor([1e6, -3.0], dtype=torch.float64)
    other = MaxAffineSpline.from_samples(x * scale + level, 1e4 * y - 7, 5)
    assert torch.allclose((other(x * scale + level) + 7) / 1e4, spline(x), atol=1e-6)
    single = MaxAffineSpline.from_samples(x, y[:, 1], 5)
    assert torch.allclose(single(x)[:, 0], spline(x)[:, 1], atol=1e-9)


def test_units_with_fewer_pieces_are_padded_with_pieces_that_are_not_there() -> None:
    x = inputs(60, 1)
    y = torch.stack([x[:, 0], x[:, 0].abs()], dim=1)
    spline = MaxAffineSpline.from_samples(x, y, 4)
    assert spline.present is None or not spline.present.all() or spline.pieces == 4
    assert torch.allclose(spline(x), y, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(1, 3), torch.ones(1)),
        (torch.zeros(8, 2), torch.ones(8)),
        (torch.arange(5.0)[:, None].repeat(1, 7), torch.arange(5.0)),
        (torch.ones(6, 1), torch.arange(6.0)),
    ],
    ids=["one sample", "constant", "fewer samples than features", "one place"],
)
def test_samples_that_do_not_suffice_for_pieces_give_few(x: Tensor, y: Tensor) -> None:
    spline = MaxAffineSpline.from_samples(x, y, 5)
    assert spline.slopes.dtype == y.dtype and spline.pieces <= 5
    assert loss(spline, x, y) == pytest.approx(affine_loss(x.double(), y.double()), abs=1e-5)


def test_the_callers_tensors_stay_and_nothing_is_random() -> None:
    x, y = inputs(200, 2).requires_grad_(), inputs(200, 1)[:, 0].square()
    before, state = x.detach().clone(), torch.get_rng_state()
    one, two = (MaxAffineSpline.from_samples(x, y, 4) for _ in range(2))
    assert torch.equal(one.slopes, two.slopes) and torch.equal(x, before) and x.grad is None
    assert torch.equal(torch.get_rng_state(), state) and one.slopes.requires_grad


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": torch.zeros(4)}, ShapeMismatch, "x: .*give floats"),
        ({"x": torch.zeros(4, 1, dtype=torch.long)}, ShapeMismatch, "x: torch.int64"),
        ({"x": torch.zeros(0, 1)}, ShapeMismatch, "not empty"),
        ({"x": torch.zeros(3, 1)}, ShapeMismatch, "3 inputs and 4 values"),
        ({"y": torch.tensor([0.0, 1.0, float("nan"), 2.0])}, BadInput, "y: it holds NaN"),
        ({"pieces": 0}, BadInput, "pieces: 0"),
        ({"pieces": 5000}, BadInput, "fewer pieces, or train"),
    ],
)
def test_bad_samples_are_refused_by_name(change: dict, error: type[Exception], words: str) -> None:
    given = {"x": torch.zeros(4, 1), "y": torch.zeros(4), "pieces": 2} | change
    with pytest.raises(error, match=words):
        MaxAffineSpline.from_samples(given["x"], given["y"], given["pieces"])
