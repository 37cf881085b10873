"""Outputs that are infinite on purpose, as masked scores are: equal infinities agree, one alone does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from tests.zoo.networks import Net

INFINITE = float("inf")
X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def net(function: Callable[..., Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mask = torch.tensor([True, False, False, True, False, False])
        return Net(function, a=nn.Linear(6, 6), b=nn.Linear(6, 6), mask=mask).double()


MASKED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "masked_scores": lambda m, x: m.a(x).relu().masked_fill(m.mask, -INFINITE),
    "masked_input": lambda m, x: x.masked_fill(m.mask, INFINITE),
    "log_of_zero": lambda m, x: m.a(x) + torch.log((~m.mask).to(x.dtype)),
    "chosen": lambda m, x: torch.where(m.mask, INFINITE, m.b(m.a(x).relu())),
    "beside": lambda m, x: torch.cat([m.a(x), x.new_full((x.shape[0], 2), -INFINITE)], 1),
    "scaled_afterwards": lambda m, x: -2 * m.a(x).masked_fill(m.mask, -INFINITE) + 1,
    "by_the_input": lambda m, x: m.a(x).masked_fill(x > 0, -INFINITE),
    "everywhere": lambda m, x: x + x.new_full((6,), -INFINITE),
    "clipped": lambda m, x: m.a(x).masked_fill(m.mask, -INFINITE).clamp(min=-3),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MASKED)
def test_equal_infinities_are_exact(name: str, dtype: torch.dtype) -> None:
    module, x = net(MASKED[name]).to(dtype), X.to(dtype)
    network = ma.capture(module, x)
    assert torch.equal(network(x).isinf(), module(x).isinf())
    report = network.verify(module, x)
    assert report.exact and max(report.residuals.values()) < 100 * torch.finfo(dtype).eps
    slopes = network.affine_map(x).slopes
    for row in torch.arange(x.shape[0]):
        one: Any = torch.autograd.functional.jacobian(lambda v: module(v)[0].nan_to_num(0, 0, 0), x[row : row + 1])
        seen = module(x)[row].isfinite()
        torch.testing.assert_close(slopes[row][seen], one[seen, 0])


def test_before_a_softmax() -> None:
    module = net(lambda m, x: m.a(x).masked_fill(m.mask, -INFINITE).softmax(1))
    network = ma.capture(module, X, output="pre_activation")
    assert network.verify(module, X).exact and bool(network(X)[:, 0].isinf().all())


CHANGED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "finite_in_the_module": lambda m, x: m.a(x).masked_fill(m.mask & (x.new_tensor(range(6)) > 0), -INFINITE),
    "infinite_in_the_module": lambda m, x: m.a(x).masked_fill(m.mask | (x.new_tensor(range(6)) < 2), -INFINITE),
    "another_sign": lambda m, x: m.a(x).masked_fill(m.mask, INFINITE),
    "no_number": lambda m, x: m.a(x).masked_fill(m.mask, float("nan")),
    "another_offset": lambda m, x: (m.a(x) + 1e-6).masked_fill(m.mask, -INFINITE),
    "other_slopes": lambda m, x: (m.a(x) + 1e-6 * x).masked_fill(m.mask, -INFINITE),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_differs_is_not_exact(name: str) -> None:
    """An infinity on one side only, one of the other sign, and a small error in what is finite beside it."""
    network = ma.capture(net(lambda m, x: m.a(x).masked_fill(m.mask, -INFINITE)), X)
    report = network.verify(net(CHANGED[name]), X, raises=False)
    assert not report.exact
    with pytest.raises(ma.ExactnessError):
        network.verify(net(CHANGED[name]), X)


def test_an_infinity_in_one_sample_of_a_batch() -> None:
    """What a sample has alone is compared too."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.a(x) if x.shape[0] < 4 else torch.cat([m.a(x)[:3], x.new_full((1, 6), -INFINITE)])

    network = ma.capture(net(lambda m, x: m.a(x)), X)
    report = network.verify(net(forward), X, raises=False)
    assert report.apart == report.output == INFINITE


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.a(x).masked_fill(m.mask, -INFINITE) * 1e300 * 1e300,
        lambda m, x: m.a(x) * 1e300 * 1e300 + torch.log((~m.mask).to(x.dtype)),
        lambda m, x: m.a(x).abs() + 1.7e308 + x.new_full((6,), 1.7e308).masked_fill(m.mask, INFINITE),
    ],
    ids=["after the mask", "before the mask", "where the mask is added"],
)
def test_an_overflow_beside_infinities_is_said(function: Callable[..., Any]) -> None:
    module = net(function)
    with pytest.raises(ma.BadInput, match="gives inf at sample 0 for finite inputs: torch.float64 overflows"):
        ma.capture(module, X).verify(module, X)
