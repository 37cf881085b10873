"""An operator that makes inf or NaN of finite numbers is named; constants of infinity are none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import maxaffine as ma
from tests.zoo.networks import Net, mlp


def grown(dtype: torch.dtype, factor: float) -> tuple[nn.Sequential, ma.SplineNetwork, Tensor]:
    torch.manual_seed(0)
    module = mlp(nn.ReLU).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)
    x = torch.randn(3, 6, dtype=torch.float32).to(dtype)
    x[0] = 0.0  # sample 0 is sound, but for half-precision biases of the last layer
    return module, ma.capture(module, x), x


@pytest.mark.parametrize(
    ("dtype", "factor", "name"), [(torch.float32, 1e20, "2"), (torch.bfloat16, 1e20, "2"), (torch.float16, 600.0, "2")]
)
def test_the_operator_is_named_wherever_it_is_asked(dtype: torch.dtype, factor: float, name: str) -> None:
    module, net, x = grown(dtype, factor)
    after = module[: int(name)](x)
    assert bool(after.isfinite().all()) and not bool(module[int(name)](after).isfinite().all())
    said = rf"x: operator '{name}' \(linear\) in module '{name}' gives (inf|NaN) at sample \d .*{dtype} overflows"
    asked: list[Any] = [
        lambda: net.affine_map(x).value,
        lambda: net.affine_map(x).slopes,
        lambda: net.affine_map(x, chunk_bytes=1).offsets,
        lambda: net.verify(module, x),
        lambda: net.templates(x),
        lambda: ma.partition.line(net, x[1:2], x[2:]).verify(module),
    ]
    for ask in asked:
        with pytest.raises(ma.BadInput, match=said):
            ask()


def test_the_sample_is_counted_from_the_beginning() -> None:
    module = Net(lambda m, x: m.a(x) * 1e30, a=nn.Linear(4, 2, bias=False))
    x = torch.zeros(5, 4)
    net = ma.capture(module, x)
    x[3] = 1e20
    options: dict[str, Any]
    for options in ({}, {"chunk_bytes": 1}):
        with pytest.raises(ma.BadInput, match=r"operator 'mul' \(mul\) in the root module gives inf at sample 3 "):
            _ = net.affine_map(x, **options).value


def test_a_line_that_overflows_float64() -> None:
    net = ma.capture(Net(lambda m, x: (x * 1e300).relu() * 1e300).double(), torch.zeros(1, 2, dtype=torch.float64))
    with pytest.raises(ma.BadInput, match=r"operator 'mul#2'.*torch.float64 overflows"):
        ma.partition.line(net, torch.zeros(1, 2).double(), torch.ones(1, 2).double())


def test_constants_of_infinity_are_no_overflow() -> None:
    mask = torch.tensor([True, False, False])
    infinite = torch.full((1, 3), -torch.inf)
    filled = Net(lambda m, x: torch.cat([x.masked_fill(m.mask, -torch.inf), x], 1), mask=mask)
    chosen = Net(lambda m, x: torch.where(m.mask, m.infinite, x), mask=mask, infinite=infinite)
    x = torch.randn(2, 3)
    for module in (filled, chosen):
        amap = ma.capture(module, x).affine_map(x)
        assert amap.value[:, 0].tolist() == [-torch.inf] * 2 and all(
            bool(item.isfinite().all()) for item in tree_leaves(amap.slopes)
        )


def test_what_is_clipped_later_is_no_fault() -> None:
    """Inf on the way, and an output that is finite all the same."""
    module = Net(lambda m, x: nn.functional.relu6(m.a(x) * 1e38 * 1e5), a=nn.Linear(6, 4))
    x = torch.randn(3, 6)
    assert ma.capture(module, x).verify(module, x).exact
