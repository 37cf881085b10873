"""Operators of a user's own: partitions follow what their rules say of boundaries, and find what PyTorch's own give."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._graph import Boundaries, Contest, Duels, FrozenFunction, Knots, LocalMap, Order, Pair, Traits
from maxaffine._partition import line, local_complexity, nearest_decision, plane, region, regions

registry = importlib.import_module("maxaffine._capture.registry")
F64 = torch.float64


@torch.library.custom_op("own::maxout", mutates_args=())
def maxout(x: Tensor) -> Tensor:
    return torch.maximum(*x.chunk(2, 1))


@torch.library.custom_op("own::clip", mutates_args=())
def clip(x: Tensor) -> Tensor:
    return x.clamp(-0.5, 0.5)


@torch.library.custom_op("own::lowest", mutates_args=())
def lowest(x: Tensor) -> Tensor:
    return x.unflatten(1, (-1, 3)).amin(2)


@torch.library.custom_op("own::highest_first", mutates_args=())
def highest_first(x: Tensor) -> Tensor:
    return x.unflatten(1, (-1, 3)).sort(2, descending=True).values.flatten(1)


maxout.register_fake(lambda x: x.chunk(2, 1)[0].clone())
clip.register_fake(torch.empty_like)
lowest.register_fake(lambda x: x.new_empty(x.shape[0], x.shape[1] // 3))
highest_first.register_fake(torch.empty_like)


@dataclass(frozen=True, eq=False)
class Own(ma.operators.Operator):
    """An operator that says what it is by functions of its input."""

    call: Any
    code: Callable[[Tensor], Tensor]
    held: Callable[[Tensor, Tensor], Tensor]  # of an input and codes
    said: Boundaries | None
    pieces: int
    homogeneous: bool = True

    @property
    def traits(self) -> Traits:
        return Traits("own", pieces=self.pieces, convex=False, homogeneous=self.homogeneous)

    def __call__(self, *inputs: Any) -> Any:
        return self.call(*inputs)

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        return self.code(inputs[0])

    def boundaries(self) -> Boundaries | None:
        return self.said

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        codes = self.code(inputs[0])
        return FrozenFunction.of(lambda given: self.held(given[0], codes), inputs, (0,), self.homogeneous)


def _clip_code(x: Tensor) -> Tensor:
    return (x > -0.5).byte() + (x > 0.5).byte()


def _clip_held(x: Tensor, codes: Tensor) -> Tensor:
    return torch.where(codes == 1, x, (codes.to(x.dtype) - 1) / 2)


def _threes(x: Tensor) -> Tensor:
    return x.unflatten(1, (-1, 3))


def _order(x: Tensor) -> Tensor:
    return _threes(x).sort(dim=2, descending=True, stable=True).indices.flatten(1)


RULES: dict[str, tuple[Any, Callable[[Any], Own], Callable[[Tensor], Tensor]]] = {
    "maxout": (
        maxout,
        lambda call: Own(
            call.affine(),
            lambda x: x[:, 6:] > x[:, :6],
            lambda x, codes: torch.where(codes, x[:, 6:], x[:, :6]),
            Duels(lambda inputs: [Pair(inputs[0][:, 6:], inputs[0][:, :6])]),
            2,
        ),
        lambda x: torch.maximum(x[:, :6], x[:, 6:]),
    ),
    "clip": (
        clip,
        lambda call: Own(call.affine(), _clip_code, _clip_held, Knots((-0.5, 0.5)), 3, homogeneous=False),
        lambda x: nn.functional.hardtanh(x, -0.5, 0.5),
    ),
    "lowest": (
        lowest,
        lambda call: Own(
            call.affine(),
            lambda x: _threes(x).argmin(2),
            lambda x, codes: _threes(x).gather(2, codes[..., None])[..., 0],
            Contest(_threes, factor=-1),
            3,
        ),
        lambda x: _threes(x).amin(2),
    ),
    "highest first": (
        highest_first,
        lambda call: Own(
            call.affine(),
            _order,
            lambda x, codes: _threes(x).gather(2, _threes(codes)).flatten(1),
            Contest(lambda x: _threes(x).repeat_interleave(3, 1), order=Order.RANK),
            3,
        ),
        lambda x: _threes(x).sort(2, descending=True).values.flatten(1),
    ),
}


class Between(nn.Module):
    """A function between two layers, after and before others."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.mix = nn.Linear(2, 8, dtype=F64), nn.Linear(8, 12, dtype=F64)
        self.last = nn.LazyLinear(3, dtype=F64)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Hidden units, the function, outputs."""
        return self.last(self.function(self.mix(self.first(x).relu())))


@pytest.fixture
def networks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, nn.Module]:
    operator, build, plain = RULES[request.param]
    rule = registry.Rule(build, ma.operators.batch.leading)
    monkeypatch.setitem(registry._RULES, operator._opoverload, rule)
    x = torch.zeros(2, 2, dtype=F64)
    modules = [Between(operator), Between(plain)]
    for module in modules:
        module(x)
    modules[1].load_state_dict(modules[0].state_dict())
    own, theirs = (ma.capture(module.eval(), x) for module in modules)
    return own, theirs, modules[1]


every = pytest.mark.parametrize("networks", RULES, indirect=True)
continuous = pytest.mark.parametrize("networks", ["maxout", "clip", "lowest"], indirect=True)


@every
def test_lines(networks: tuple[Any, Any, nn.Module]) -> None:
    own, theirs, module = networks
    ends = torch.tensor([[[-4.0, -3.0]], [[3.0, 4.0]]], dtype=F64)
    found, expected = (line(net, *ends) for net in (own, theirs))
    assert found.pieces > 8
    torch.testing.assert_close(found.breakpoints, expected.breakpoints, atol=1e-9, rtol=0)
    assert found.verify(module).exact


@continuous
def test_planes(networks: tuple[Any, Any, nn.Module]) -> None:
    own, theirs, module = networks
    found, expected = (plane(net, extent=3.0) for net in (own, theirs))
    assert len(found.classes) == len(expected.classes) > 20
    assert found.verify(module).exact


@continuous
def test_regions(networks: tuple[Any, Any, nn.Module]) -> None:
    own, theirs, _ = networks
    x = torch.tensor([[0.3, -0.2]], dtype=F64)
    found, expected = (region(net, x) for net in (own, theirs))
    assert found.ball[1] == pytest.approx(expected.ball[1])
    assert len(found.neighbors()) == len(expected.neighbors()) > 2
    counts = [len(regions(net, (-2, 2))) for net in (own, theirs)]
    assert counts[0] == counts[1] > 20


@every
def test_local_complexity(networks: tuple[Any, Any, nn.Module]) -> None:
    own, theirs, _ = networks
    x = torch.randn(5, 2, dtype=F64)
    found, expected = (local_complexity(net, x, radius=0.5, seed=0) for net in (own, theirs))
    assert torch.equal(found.total, expected.total) and found.total.sum() > 0


@every
def test_nearest_decisions(networks: tuple[Any, Any, nn.Module]) -> None:
    own, theirs, module = networks
    points = 20 * torch.rand(400, 2, dtype=F64, generator=torch.Generator().manual_seed(0)) - 10
    best = module(points).topk(2).values
    x = points[(best[:, 0] - best[:, 1]).argsort()[10]][None]  # two classes are nearly level
    found, expected = (nearest_decision(net, x, bounds=(-10, 10), time_limit=20) for net in (own, theirs))
    assert found.proved and expected.proved and (found.point is None or found.verify(module) > 0)
    assert found.distance == pytest.approx(expected.distance, rel=1e-6)


def test_a_rule_whose_boundaries_are_wrong_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(call: Any) -> Own:
        return Own(call.affine(), _clip_code, _clip_held, Knots((-0.5, 0.4)), 3, homogeneous=False)

    monkeypatch.setitem(registry._RULES, clip._opoverload, registry.Rule(build, ma.operators.batch.pointwise))
    module, x = nn.Sequential(nn.Linear(2, 4, dtype=F64), *[Clip()]), torch.full((1, 2), 0.5, dtype=F64)
    with pytest.raises(ma.NotPiecewiseAffine, match="do not give its values"):
        nearest_decision(ma.capture(module, x), x, bounds=(-9, 9))


@pytest.mark.parametrize("networks", ["highest first"], indirect=True)
def test_what_has_no_convex_pieces_is_refused_by_name(networks: tuple[Any, Any, nn.Module]) -> None:
    with pytest.raises(ma.NotPiecewiseAffine, match="not a convex set"):
        region(networks[0], torch.zeros(1, 2, dtype=F64))
    with pytest.raises(ma.NotPiecewiseAffine, match="the order of many entries"):
        plane(networks[0], extent=1.0)


def test_without_boundaries_partitions_name_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(call: Any) -> Own:
        return Own(call.affine(), _clip_code, _clip_held, None, 3, homogeneous=False)

    monkeypatch.setitem(registry._RULES, clip._opoverload, registry.Rule(build, ma.operators.batch.pointwise))
    module, x = nn.Sequential(nn.Linear(2, 4, dtype=F64), *[Clip()]), torch.zeros(1, 2, dtype=F64)
    net = ma.capture(module, x)
    for find in (lambda: line(net, x, x + 1), lambda: plane(net, extent=1.0), lambda: region(net, x)):
        with pytest.raises(ma.NotPiecewiseAffine, match=r"method boundaries\(\)"):
            find()


class Clip(nn.Module):
    """The operator as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """It."""
        return clip(x)
