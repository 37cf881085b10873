"""Soft forms against the formulas written out piece by piece, their limits, bounds and derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import maxaffine as ma
from maxaffine import curvature
from maxaffine.errors import NotPiecewiseAffine

Pieces = Callable[[Tensor], list[Tensor]]
Parts = tuple[Pieces, Pieces | None]  # the convex part, and what is subtracted


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def prelu() -> nn.PReLU:
    module = nn.PReLU(3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([-0.5, 0.25, 1.75]))
    return module


SLOPES = torch.tensor([-0.5, 0.25, 1.75], dtype=torch.float64)
# Each operator, the pieces of its convex part and of its concave one; inputs (N, 3).
OPERATORS: dict[str, tuple[nn.Module, Parts]] = {
    "relu": (nn.ReLU(), (lambda x: [0 * x, x], None)),
    "functional relu": (Function(F.relu), (lambda x: [0 * x, x], None)),
    "clamp at 0.5": (Function(lambda x: x.clamp(min=0.5)), (lambda x: [0.5 + 0 * x, x], None)),
    "leaky relu": (nn.LeakyReLU(0.2), (lambda x: [0.2 * x, x], None)),
    "concave leaky relu": (nn.LeakyReLU(3.0), (lambda x: [4 * x], lambda x: [x, 3 * x])),
    "abs": (Function(torch.abs), (lambda x: [-x, x], None)),
    "relu6": (nn.ReLU6(), (lambda x: [0 * x, x], lambda x: [0 * x, x - 6])),
    "hardtanh": (nn.Hardtanh(-1, 2), (lambda x: [-1 + 0 * x, x], lambda x: [0 * x, x - 2])),
    "hardsigmoid": (nn.Hardsigmoid(), (lambda x: [0 * x, x / 6 + 0.5], lambda x: [0 * x, x / 6 - 0.5])),
    "softshrink": (nn.Softshrink(0.5), (lambda x: [x, 2 * x - 0.5], lambda x: [-0.5 + 0 * x, x])),
    "maximum": (Function(lambda x: torch.maximum(x, x.flip(1))), (lambda x: [x, x.flip(1)], None)),
    "minimum": (Function(lambda x: torch.minimum(x, x.flip(1))), (lambda x: [0 * x], lambda x: [-x, -x.flip(1)])),
    "amax": (Function(lambda x: x.amax(1)), (lambda x: list(x.unbind(1)), None)),
    "min": (Function(lambda x: x.min(1).values), (lambda x: [0 * x[:, 0]], lambda x: [-z for z in x.unbind(1)])),
    "largest of topk": (Function(lambda x: x.topk(1).values[:, 0]), (lambda x: list(x.unbind(1)), None)),
    "maxout": (Function(lambda x: torch.stack([x, -2 * x, 1 - x]).amax(0)), (lambda x: [x, -2 * x, 1 - x], None)),
}


@cache
def captured(name: str) -> ma.SplineNetwork:
    return ma.capture(OPERATORS[name][0].double(), points()[:2])


def direct(pieces: list[Tensor], beta: float, form: str, mix: float = 0.5) -> Tensor:
    """The formulas as they are written, in float64."""
    z, g = torch.stack(pieces), 1 / (1 - beta)
    weights = torch.exp(beta * g * z)
    expected = (weights * z).sum(0) / weights.sum(0)
    energy = torch.exp(g * z).sum(0).log() / g if len(pieces) > 1 else z[0]
    return {"expected": expected, "energy": energy, "mixed": mix * expected + (1 - mix) * energy}[form]


def points(seed: int = 0) -> Tensor:
    return 3 * torch.randn(40, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("form", ["expected", "energy", "mixed"])
@pytest.mark.parametrize("beta", [0.0, 0.5, 0.93])
def test_forms_are_their_formulas(name: str, form: str, beta: float) -> None:
    (convex, concave), x = OPERATORS[name][1], points()
    soft = curvature.soften(captured(name), beta, form, mix=0.3)
    truth = direct(convex(x), beta, form, 0.3)
    if concave is not None:
        truth = truth - direct(concave(x), beta, form, 0.3)
    assert_close(soft(x), truth, rtol=1e-12, atol=1e-12)


def test_forms_of_slopes_that_are_parameters() -> None:
    x, beta = points(), 0.8
    soft = curvature.soften(prelu().double(), beta, "energy", example=x[:2])
    turned = SLOPES > 1  # there the function is concave
    ordinary = direct([SLOPES * x, x], beta, "energy")
    below = SLOPES * x + x - direct([SLOPES * x, x], beta, "energy")  # min(a, b) = a + b - max(a, b)
    assert_close(soft(x), torch.where(turned, below, ordinary), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("form", "beta"), [("expected", 0.5), ("energy", 0.9), ("mixed", 0.0)])
def test_soft_max_pooling_against_unfold(form: str, beta: float) -> None:
    x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for pool, unfolded in [
        (nn.MaxPool2d(2), F.unfold(x, 2, stride=2)),
        (nn.MaxPool2d((3, 2), stride=1, dilation=(1, 2)), F.unfold(x, (3, 2), dilation=(1, 2))),
    ]:
        soft = curvature.soften(pool, beta, form, example=x)(x)
        windows = unfolded.view(2, 3, -1, unfolded.shape[-1])
        assert_close(soft.flatten(2), direct(list(windows.unbind(2)), beta, form), rtol=1e-12, atol=1e-12)


def test_padding_of_a_pooling_is_no_piece() -> None:
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64).requires_grad_()
    soft = curvature.soften(nn.MaxPool2d(3, 1, 1), 0.6, "expected", example=x.detach(), trainable=True)
    found = soft(x)
    corner = direct(list(x[:, 0, :2, :2].flatten(1).unbind(1)), 0.6, "expected")
    assert_close(found[:, 0, 0, 0], corner, rtol=1e-12, atol=1e-12)
    found.sum().backward()
    assert all(bool(item.grad is not None and item.grad.isfinite().all()) for item in (x, *soft.parameters()))


@pytest.mark.parametrize("form", ["expected", "energy", "mixed"])
@pytest.mark.parametrize("module", [nn.ReLU6(), nn.MaxPool1d(3)], ids=["relu6", "max pooling"])
def test_derivative_in_beta_by_finite_differences(module: nn.Module, form: str) -> None:
    x, beta, step = points(), 0.8, 1e-6
    if isinstance(module, nn.MaxPool1d):
        x = x.view(40, 1, 3)
    net = ma.capture(module, x[:2])
    soft = curvature.soften(net, beta, form, trainable=True, mix=0.3)
    derivative = torch.autograd.grad(soft(x).square().sum(), next(soft.soft_codes.parameters()))[0] / (
        beta * (1 - beta)
    )
    above, below = (curvature.soften(net, b, form, mix=0.3) for b in (beta + step, beta - step))
    difference = (above(x).square().sum() - below(x).square().sum()) / (2 * step)
    assert_close(derivative, difference, rtol=1e-7, atol=1e-7)


def test_known_activations() -> None:
    x, relu = points(), captured("relu")
    assert_close(curvature.soften(relu, 0.5, "expected")(x), F.silu(x))
    softplus = F.softplus(x, beta=4, threshold=1e9)
    assert_close(curvature.soften(relu, 0.75, "energy")(x), softplus)
    assert_close(curvature.soften(relu, 0.0, "expected")(x), x / 2)
    # Curvature tuning's unit as its paper writes it.
    eta, c = 0.9 / 0.1, 0.5
    paper = c * torch.sigmoid(eta * x) * x + (1 - c) * torch.log(1 + torch.exp(x / 0.1)) * 0.1
    assert_close(curvature.soften(relu, 0.9)(x), paper, rtol=1e-9, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 0.999), st.integers(0, 10_000), st.floats(-5, 5))
def test_expected_lies_below_and_energy_above_and_both_move_with_a_shift(beta: float, seed: int, shift: float) -> None:
    x, maxout = points(seed), captured("maxout")
    below, above = (curvature.soften(maxout, beta, form)(x) for form in ("expected", "energy"))
    slack = 1e-12 * (1 + x.abs().max())
    assert bool((below <= maxout(x) + slack).all()) and bool((above >= maxout(x) - slack).all())
    for form in ("expected", "energy"):
        soft = curvature.soften(captured("amax"), beta, form)
        assert_close(soft(x + shift), soft(x) + shift, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_stable_close_to_one_and_for_large_numbers(dtype: torch.dtype) -> None:
    x = torch.tensor([[-3e4, -1.0, 0.0, 1e-3, 2.0, 3e4]]).to(dtype).requires_grad_()
    module = Function(lambda x: F.relu6(x) + x.amax(1, keepdim=True))
    net = ma.capture(module, x.detach())
    for form in ("expected", "energy", "mixed"):
        for beta in (0.0, 0.9, 1 - 1e-7, 1 - 1e-13):
            y = curvature.soften(net, beta, form)(x)
            (slope,) = torch.autograd.grad(y.sum(), x)
            assert y.dtype == dtype and bool(y.isfinite().all()) and bool(slope.isfinite().all())
            if beta > 0.99:
                assert_close(y, module(x), rtol=1e-2 if dtype.itemsize < 4 else 1e-6, atol=1e-6)


def test_channels_at_one_are_exact_and_have_gradients() -> None:
    x = points().requires_grad_()
    betas = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    soft = curvature.soften(nn.LeakyReLU(0.2), betas, "expected", example=x.detach())
    y = soft(x)
    assert torch.equal(y[:, 0], F.leaky_relu(x[:, 0], 0.2))
    assert_close(y[:, 2], 0.6 * x[:, 2])
    y.sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: torch.where(x > 0, x, 2 * x), "gt.*jumps"),
        (lambda x: x.sort(1).values, "sort.*another rank"),
        (lambda x: x.gather(1, x.max(1, keepdim=True).indices), "max.*which piece wins"),
        (lambda x: F.threshold(x, 1.0, 0.0), "threshold.*jumps"),
    ],
)
def test_what_has_no_soft_form_is_refused_with_its_name_and_may_stay_hard(
    function: Callable[[Tensor], Tensor], words: str
) -> None:
    x = points()
    net = ma.capture(Function(lambda x: F.relu(function(x))), x[:2])
    with pytest.raises(NotPiecewiseAffine, match=f"(?s){words}.*operators="):
        curvature.soften(net, 0.9)
    soft = curvature.soften(net, 0.5, "expected", operators=["relu"])
    assert_close(soft(x), F.silu(function(x)))
    assert torch.equal(curvature.soften(net, 1.0)(x), net(x))


def test_nan_to_num_has_nothing_to_soften() -> None:
    x = points()
    soft = curvature.soften(Function(lambda x: torch.nan_to_num(x).relu()), 0.5, "expected", example=x[:2])
    assert_close(soft(x), F.silu(x))
