"""Integers, truth values and constants among the arguments of an operator are offset, and nothing of them is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import maxaffine as ma
from maxaffine._capture import Call
from tests import oracles
from tests.blocks import only
from tests.zoo.networks import Net

aten = torch.ops.aten
N, D = 2, 6
X = torch.linspace(-1.7, 2.1, N * D, dtype=torch.float64).view(N, D).flip(1)
PARTS: dict[str, Tensor] = {
    "whole": torch.arange(1, D + 1),
    "flags": torch.tensor([True, False, True, True, False, True]),
    "numbers": torch.linspace(1, 2, D, dtype=torch.float64),
    "places": torch.tensor([4, 1]),
}

# What stands beside a value that depends on the input: a constant, or what is constant within a region.
BESIDE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "integers": lambda m, x: m.whole.expand(x.shape),
    "truth values": lambda m, x: m.flags.expand(x.shape),
    "floats": lambda m, x: m.numbers.expand(x.shape),
    "comparisons": lambda m, x: x > 0.1,
    "converted comparisons": lambda m, x: (x > 0.1).to(x.dtype) + 1,
    "places": lambda m, x: (x > 0).long() + 3,
}


def half(x: Tensor) -> Tensor:
    return x[:, : D // 2]


def put(x: Tensor, c: Tensor, m: Any) -> Tensor:
    y = x.clone()
    y[:, m.places] = c[:, :2].to(x.dtype)
    return y


def written(x: Tensor, c: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = c[:, 1:3]
    y[:, 5] = c[:, 0]
    return y


# Every way in which a value x that depends on the input meets another, c, that does not.
MEETINGS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "cat": lambda m, x, c: torch.cat([x, c], 1),
    "cat, the other first": lambda m, x, c: torch.cat([c, x, c], 1),
    "hstack": lambda m, x, c: torch.hstack([x, c]),
    "stack": lambda m, x, c: torch.stack([x, c], 1),
    "dstack": lambda m, x, c: torch.dstack([x, c]),
    "add": lambda m, x, c: x + c,
    "sub": lambda m, x, c: c * 1.0 - x,
    "add, scaled": lambda m, x, c: torch.add(x, c, alpha=2),
    "mul": lambda m, x, c: x * c,
    "div": lambda m, x, c: x / (c + 1),
    "where": lambda m, x, c: torch.where(m.flags, x, c),
    "where, the other first": lambda m, x, c: torch.where(x > 0.2, c, x),
    "masked_fill": lambda m, x, c: x.masked_fill(c > 1, 3),
    "maximum": lambda m, x, c: torch.maximum(x, c.to(x.dtype)),
    "minimum": lambda m, x, c: torch.minimum(c.to(x.dtype), x),
    "clamp": lambda m, x, c: x.clamp(min=c.to(x.dtype) - 1.5, max=c.to(x.dtype)),
    "lerp": lambda m, x, c: torch.lerp(x, c.to(x.dtype), 0.3),
    "lerp, weighed": lambda m, x, c: torch.lerp(c.to(x.dtype), x, m.numbers),
    "addcmul": lambda m, x, c: torch.addcmul(x, c.to(x.dtype), m.numbers, value=2),
    "addcdiv": lambda m, x, c: torch.addcdiv(c.to(x.dtype), x, m.numbers),
    "written": lambda m, x, c: written(x, c),
    "index_put": lambda m, x, c: put(x, c, m),
    "index_copy": lambda m, x, c: x.index_copy(1, m.places, c[:, :2].to(x.dtype)),
    "index_add": lambda m, x, c: x.index_add(1, m.places, c[:, :2].to(x.dtype)),
    "index_fill": lambda m, x, c: x.index_fill(1, m.places, 7) + c,
    "scatter": lambda m, x, c: x.scatter(1, m.places.expand(x.shape[0], -1), c[:, :2].to(x.dtype)),
    "scatter_add": lambda m, x, c: c.to(x.dtype).scatter_add(1, m.places.expand(x.shape[0], -1), x[:, :2]),
    "select_scatter": lambda m, x, c: x.select_scatter(c[:, 0], 1, 2),
    "slice_scatter": lambda m, x, c: x.slice_scatter(half(c).to(x.dtype), 1, 0, 3),
    "diagonal_scatter": lambda m, x, c: torch.diagonal_scatter(x.view(-1, 2, 3), c[:, :2].to(x.dtype), 0, 1, 2).flatten(
        1
    ),
    "pad": lambda m, x, c: F.pad(torch.cat([x, c], 1), (1, 2), value=3),
    "addmm": lambda m, x, c: torch.addmm(c.to(x.dtype), x, torch.diag(m.numbers), beta=2),
    "baddbmm": lambda m, x, c: torch.baddbmm(c.to(x.dtype)[:, :, None], x[:, :, None], x.new_ones(x.shape[0], 1, 1)),
    "linear": lambda m, x, c: F.linear(x, m.numbers[None].expand(3, -1), m.whole[:3].to(x.dtype)) + c[:, :3],
    "matmul": lambda m, x, c: (x[:, None] * c[:, :, None]).flatten(1),
    "copy": lambda m, x, c: aten.copy.default(c.to(x.dtype), x),
    "flip": lambda m, x, c: torch.cat([x, c], 1).flip(1).roll(2, 1)[:, None].expand(-1, 2, -1),
    "unflatten": lambda m, x, c: torch.cat([x, c], 1).unflatten(1, (3, 4)).transpose(1, 2).sum(2),
    "sort": lambda m, x, c: torch.cat([x, c], 1).sort(1).values,
    "amax": lambda m, x, c: torch.stack([x, c], 1).amax(1),
    "cumsum": lambda m, x, c: torch.cat([c, x], 1).cumsum(1),
}


# Where entries are moved side by side, which asks whether a constant is among them.
MOVED = ("cat", "written", "index_put", "select_scatter", "diagonal_scatter")


def meet(m: Any, x: Tensor, beside: Callable[[Any, Tensor], Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The value of every meeting, a vector per sample."""
    y, c = 2 * x.relu() - x, beside(m, x)
    return {name: MEETINGS[name](m, y, c).flatten(1) for name in names}


def check(kinds: Iterable[str], names: Iterable[str]) -> None:
    def values(m: Any, x: Tensor) -> dict[str, Tensor]:
        pairs = [(kind, meet(m, x, BESIDE[kind], names)) for kind in kinds]
        return {f"{name} with {kind}": value for kind, found in pairs for name, value in found.items()}

    module = Net(lambda m, x: torch.cat(list(values(m, x).values()), 1), **PARTS)
    owners = [name for name, value in values(module, X).items() for _ in value[0]]
    net = ma.capture(module, X)
    v, h = X.flip(1), 1e-5
    amap, truth = net.affine_map(X), module(X)
    slopes, through = ((module(X + h * w) - module(X - h * w)) / (2 * h) for w in (v, X))
    found = {
        "value": (net(X), truth),
        "affine": (amap(X), truth),
        "slopes": (amap.mv(v), slopes),
        "offset": (amap.offset_contributions().sum(), truth - through),
    }
    for what, (own, expected) in found.items():
        wrong = ((own - expected).abs() > 1e-8).any(0).nonzero().flatten().tolist()
        assert not wrong, f"{what}: {sorted({owners[place] for place in wrong})}"
    pulled = (only(amap.rmv(torch.ones_like(truth))) * v).sum(1)
    assert torch.allclose(pulled, slopes.sum(1), atol=1e-8)


def test_no_constant_is_lost() -> None:
    check(["integers"], MEETINGS)


def test_no_constant_of_any_type_is_moved_without_a_trace() -> None:
    check(BESIDE, MOVED)


def test_a_constant_that_is_taken_for_a_dependent_value_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "joint", True)
    with pytest.raises(AssertionError, match="slopes: .*cat with truth values"):
        check(["truth values"], ["cat"])


# Comparisons beside what they compare, as in the encoding of a number by thresholds: offset, and no slope.
ENCODINGS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "thermometer": lambda m, x: torch.cat([x, x > 0, x > 1, x > 2], 1),
    "stacked": lambda m, x: torch.stack([x > 0, x], 1),
    "horizontally": lambda m, x: torch.hstack([x, (x > 0).long(), m.whole[:4].expand(x.shape)]),
    "read by a layer": lambda m, x: F.linear(torch.cat([x, x > 0], 1), m.weight, m.bias),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_number_beside_its_comparisons_is_exact_at_inputs_and_along_lines(name: str) -> None:
    weight = torch.linspace(-1, 1, 24, dtype=torch.float64).sin().view(3, 8)
    module = Net(ENCODINGS[name], weight=weight, bias=torch.ones(3, dtype=torch.float64), **PARTS)
    x = torch.tensor([[-1.5, 0.25, 1.5, 2.5], [1.25, -0.5, -2.0, 3.5]], dtype=torch.float64)
    net = ma.capture(module, x)
    amap = net.affine_map(x)
    assert torch.allclose(amap(x), module(x), atol=1e-12)
    assert torch.allclose(only(amap.slopes), oracles.jacobian(module, (x,))[0][0], atol=1e-12)
    cut = ma.partition.line(net, x[:1], x[1:])
    t = cut.middles
    expected = module((1 - t[:, None]) * x[:1] + t[:, None] * x[1:]).flatten(1)
    found = (cut.slopes.flatten(1) * t[:, None] + cut.offsets.flatten(1)).to(expected)
    assert torch.allclose(found, expected, atol=1e-9)
