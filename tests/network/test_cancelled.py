"""Results that are small because large terms cancelled are judged by those terms, and what is wrong is still caught."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._graph import Step
from maxaffine._templates import bias_free
from tests.network.broken import Broken, Spoiled, with_step
from tests.zoo.networks import Net


def centered(m: Any, x: Tensor) -> Tensor:
    """The bias of a convolution drops out."""
    h = m.layer(x)
    return h - h.mean((2, 3), keepdim=True)


def hat(m: Any, x: Tensor) -> Tensor:
    """Weights of 1e4: beyond its foot, slopes and offsets cancel."""
    return m.last(m.layer(x).relu())


def lifted(m: Any, x: Tensor) -> Tensor:
    """Far above the kink of a ReLU and back."""
    return m.last((m.layer(x) + 1e6).relu() - 1e6)


def twice(m: Any, x: Tensor) -> Tensor:
    """A steep layer minus itself, but for a small part: what cancels are slopes."""
    h = 1e5 * m.layer(x)
    return m.last((h + x).relu() - h.relu())


def steep() -> dict[str, nn.Module]:
    layer, last = nn.Linear(1, 3), nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1e4)
        layer.bias.copy_(torch.tensor([0.0, -5e3, -1e4]))
        last.weight.copy_(torch.tensor([[1.1, -2.2, 1.1]]))
    return {"layer": layer, "last": last}


# The function, its layers, the shape of one input, and where inputs lie: center + spread * normal.
NETWORKS = {
    "centered": (centered, lambda: {"layer": nn.Conv2d(2, 4, 3, padding=1)}, (2, 6, 6), 0.0, 1.0),
    "hat": (hat, steep, (1,), 3.0, 0.1),
    "lifted": (lifted, lambda: {"layer": nn.Linear(5, 8), "last": nn.Linear(8, 3)}, (5,), 0.0, 1.0),
    "twice": (twice, lambda: {"layer": nn.Linear(5, 5), "last": nn.Linear(5, 3)}, (5,), 0.0, 1.0),
}
RIGHT = [(name, torch.float32) for name in NETWORKS] + [("lifted", torch.float64), ("twice", torch.float64)]
# Where a thousandth of one number of these parameters is more than the rounding of the terms that cancel.
SEEN = [
    ("centered", torch.float32, "layer.weight"),
    ("hat", torch.float32, "layer.weight"),
    ("hat", torch.float32, "last.weight"),
    ("lifted", torch.float64, "layer.weight"),
    ("lifted", torch.float64, "layer.bias"),
    ("lifted", torch.float64, "last.bias"),
    ("twice", torch.float64, "last.weight"),
    ("twice", torch.float64, "last.bias"),
]


@cache
def case(name: str, dtype: torch.dtype) -> tuple[nn.Module, ma.SplineNetwork, Tensor]:
    forward, layers, shape, center, spread = NETWORKS[name]
    torch.manual_seed(0)
    module = Net(forward, **layers()).to(dtype).eval()
    x = center + spread * torch.randn(4, *shape, dtype=dtype)
    return module, ma.capture(module, x), x


@pytest.mark.parametrize(("name", "dtype"), RIGHT)
def test_what_is_right_is_exact(name: str, dtype: torch.dtype) -> None:
    module, net, x = case(name, dtype)
    report = net.verify(module, x)
    assert report.exact and report.bound < 1e-4
    line = ma.partition.line(net, x[:1], x[1:2], outputs=[0])
    assert line.verify(module).exact
    assert ma.partition.integrated_gradients(net, x[:1], x[1:2], outputs=[0]).completeness < 1e-14
    found = net.templates(x)
    assert bool((found.residuals.abs().amax(1) <= found.bound).all())
    assert torch.allclose(found.contributions.sum(), found.affine_map.offsets, rtol=0, atol=float(found.bound.max()))


def test_an_offset_that_drops_out_is_none() -> None:
    assert bias_free(*case("centered", torch.float32)[1:]).here
    assert not bias_free(*case("lifted", torch.float64)[1:]).here


@pytest.mark.parametrize(("name", "dtype", "parameter"), SEEN)
def test_a_thousandth_of_one_number_is_seen(name: str, dtype: torch.dtype, parameter: str) -> None:
    module, net, x = case(name, dtype)
    other = copy.deepcopy(module)
    with torch.no_grad():
        numbers = other.get_parameter(parameter).view(-1)
        numbers[numbers.abs().argmax()] *= 1.001
    assert not net.verify(other, x, raises=False).exact
    assert not ma.partition.line(net, x[:1], x[1:2]).verify(other, raises=False).exact


@pytest.mark.parametrize("factors", [{"mv": 1.001}, {"rmv": 1.001}, {"offset": 0.0}], ids=["mv", "rmv", "offset"])
@pytest.mark.parametrize(("name", "dtype"), [("centered", torch.float32), ("lifted", torch.float64)])
def test_a_wrong_map_is_seen(name: str, dtype: torch.dtype, factors: dict[str, float]) -> None:
    module, net, x = case(name, dtype)
    for operator in ("layer", "last", "sub"):
        lone = not any(r.name == operator for r in net.operators) or (operator == "sub" and "offset" in factors)
        if lone or (name, operator, *factors) == ("centered", "layer", "offset"):  # which drops out
            continue

        def change(step: Step) -> Step:
            return replace(step, operator=Broken(step.operator, lambda local: Spoiled(local, **factors)))

        assert not with_step(net, operator, change).verify(module, x, raises=False).exact
