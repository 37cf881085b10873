"""Modules of several dtypes, and of tensors made in inference mode: what counts is whether the module runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from tests.zoo.networks import Net, mlp

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


def adapted(m: nn.Module, x: Tensor) -> Tensor:
    """A base in bfloat16 beside an adapter in float32."""
    return (m.get_submodule("base")(x.bfloat16()).float() + m.get_submodule("b")(m.get_submodule("a")(x))).relu()


RUN: dict[str, Callable[[], nn.Module]] = {
    "adapters": lambda: Net(adapted, base=nn.Linear(6, 4).bfloat16(), a=nn.Linear(6, 2), b=nn.Linear(2, 4)),
    "unused_half_layer": lambda: Net(lambda m, x: m.a(x).relu(), a=nn.Linear(6, 4), c=nn.Linear(2, 2).half()),
    "double_buffer": lambda: Net(lambda m, x: m.a(x.double()).float().relu(), a=nn.Linear(6, 4).double()),
    "unused_eight_bits": lambda: Net(
        lambda m, x: m.a(x).relu(),
        a=nn.Linear(6, 4),
        c=nn.Parameter(torch.ones(2).to(torch.float8_e4m3fn), requires_grad=False),
    ),
}


@pytest.mark.parametrize("name", RUN)
def test_modules_of_several_dtypes(name: str) -> None:
    module = RUN[name]().eval()
    network = ma.capture(module, X)
    assert torch.equal(network(X), module(X)) and network.verify(module, X).exact


def test_a_module_that_does_not_run_names_the_dtype() -> None:
    module = Net(lambda m, x: m.a(x), a=nn.Linear(6, 4).bfloat16())
    with pytest.raises(ma.ShapeMismatch, match=r"dtype torch.float32, but .*'a.weight' is torch.bfloat16; convert one"):
        ma.capture(module, X)


def test_a_module_built_in_inference_mode() -> None:
    with torch.inference_mode():
        module = nn.Sequential(mlp(nn.ReLU), nn.BatchNorm1d(3), nn.ReLU()).eval()
        x = X * 1
    network = ma.capture(module, x)
    assert network.verify(module, x).exact
    with torch.no_grad():
        assert torch.equal(network(X), module(X))
