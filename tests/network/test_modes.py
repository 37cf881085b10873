"""The caller's global modes change nothing of what a network computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maxaffine as ma
from tests.zoo.networks import Net

MODES: dict[str, Callable[[], Any]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def forward(m: Any, x: Tensor) -> Tensor:
    """Operators of which PyTorch gives the slopes, and of which the library does."""
    y = F.relu6(m.a(x)).unflatten(1, (2, 3))
    y = torch.where(y > 0.2, y.sort(2).values, -y) + torch.maximum(y, x.unflatten(1, (2, 3)))
    return m.b(y.gather(2, y.argsort(2))).flatten(1)


def module() -> nn.Module:
    torch.manual_seed(0)
    return Net(forward, a=nn.Linear(6, 6), b=nn.Linear(3, 2)).eval()


def numbers(net: ma.SplineNetwork, x: Tensor) -> list[Tensor]:
    """All that a network says of its inputs."""
    amap = net.affine_map(x)
    slopes = amap.slopes
    assert isinstance(slopes, Tensor)
    shares = amap.offset_contributions()
    pulled = amap.rmv(torch.ones_like(amap.value))
    assert isinstance(pulled, Tensor)
    codes = [item.unpack() for item in net.codes(x).values()]
    return [net(x), slopes, amap.offsets, amap.mv(x), pulled, amap(x), shares.sum(), *shares.values(), *codes]


@pytest.mark.parametrize("name", MODES)
def test_the_same_numbers_inside_a_mode(name: str) -> None:
    """Inputs made inside it too, and maps begun outside."""
    net = ma.capture(module(), X)
    expected, begun = numbers(net, X), net.affine_map(X)
    with MODES[name]():
        found = numbers(net, X) + numbers(net, X * 1)
        slopes = begun.slopes
    for own, other in zip(found, expected * 2, strict=True):
        assert torch.equal(own, other)
    assert isinstance(slopes, Tensor) and torch.equal(slopes, expected[1])


@pytest.mark.parametrize("name", ["inference", "no_grad"])
def test_captured_and_verified_inside_a_mode(name: str) -> None:
    model = module()
    with MODES[name]():
        net = ma.capture(model, X * 1)
        assert net.verify(model, X * 1).exact
        assert torch.is_inference_mode_enabled() == (name == "inference") and not torch.is_grad_enabled()
    for own, other in zip(numbers(net, X), numbers(ma.capture(model, X), X), strict=True):
        assert torch.equal(own, other)


def test_under_autocast_the_module_is_another_one() -> None:
    """Captured inside autocast it is exact inside; the network does not change with the mode, the module does."""
    model = module()
    net = ma.capture(model, X)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ma.capture(model, X)
        assert inside.verify(model, X).exact and inside(X).dtype == torch.bfloat16
        with pytest.raises(ma.BadInput, match="output 0 is torch.bfloat16, the network's torch.float32; verify it as"):
            net.verify(model, X)
    assert inside(X).dtype == torch.bfloat16
