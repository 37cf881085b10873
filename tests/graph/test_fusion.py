"""Fused pairs: the same values, codes, maps and split of the offsets as the two operators one by one."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._graph import Graph, Linearization, fold, fuse
from tests.blocks import only
from tests.zoo.networks import Net, randomize


def several_uses(m: Any, x: Tensor) -> Tensor:
    """A convolution read by two operators, so neither may be folded into it."""
    y = m.conv(x)
    return m.norm(y) + y.relu()


def shared(m: Any, x: Tensor) -> Tensor:
    """One convolution called twice, followed by one batch-norm each."""
    return m.first(m.conv(x)) - m.second(m.conv(x.flip(2)))


PARTS: dict[str, tuple[nn.Module, int]] = {
    "convolution": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)), 1),
    "grouped": (nn.Sequential(nn.Conv2d(2, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4, affine=False)), 1),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(2, 4, 3, 2, groups=2), nn.BatchNorm2d(4)), 1),
    "pooled_activation": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.Hardtanh(-0.2, 0.4), nn.MaxPool2d(2)), 1),
    "whole_block": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(0.3), nn.MaxPool2d((2, 3))), 2),
    "overlapping_pool": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2, 1)), 0),
    "several_uses": (Net(several_uses, conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3)), 0),
    "shared": (Net(shared, conv=nn.Conv2d(2, 3, 3), first=nn.BatchNorm2d(3), second=nn.BatchNorm2d(3)), 2),
    "two_outputs": (
        Net(lambda m, x: (y := m.conv(x), m.norm(y).flatten(1)), conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3)),
        0,
    ),
}
X = torch.randn(2, 2, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
every_part = pytest.mark.parametrize("name", PARTS)


@cache
def captured() -> ma.SplineNetwork:
    """All parts side by side."""
    torch.manual_seed(0)
    module = Net(lambda m, x: {name: getattr(m, name)(x) for name in PARTS}, **{n: m for n, (m, _) in PARTS.items()})
    randomize(module)
    return ma.capture(module.double().eval(), X)


def graphs(name: str) -> tuple[Graph, Graph]:
    """The part's own graph (its last output where there are two), plain and fused."""
    net = captured()
    numbers = [number for path, number in net.places.items() if path == name]
    targets = numbers if name != "two_outputs" else [net.graph.outputs[-2], net.graph.outputs[-1]]
    plain = net.graph.part(targets)
    return plain, fuse(plain)


@every_part
def test_pairs_are_found(name: str) -> None:
    plain, fused = graphs(name)
    assert len(plain.steps) - len(fused.steps) == PARTS[name][1]
    assert [r for step in fused.steps for r in step.records] == [r for step in plain.steps for r in step.records]


@every_part
def test_values_and_codes_stay(name: str) -> None:
    plain, fused = graphs(name)
    for one, two in zip(plain.run([X]), fused.run([X]), strict=True):
        assert torch.equal(one, two)


@every_part
def test_maps_and_their_offsets_stay(name: str) -> None:
    plain, fused = (Linearization(graph, [X]) for graph in graphs(name))
    direction = torch.randn_like(X)
    weights = [torch.randn(3, *output.shape, dtype=X.dtype) for output in plain.outputs]
    for offset in (False, True):
        for one, two in zip(plain.push([direction], offset), fused.push([direction], offset), strict=True):
            assert_close(two, one, rtol=1e-12, atol=1e-12)
    (number,) = plain.graph.inputs
    assert_close(fused.pull(weights)[number], plain.pull(weights)[number], rtol=1e-12, atol=1e-12)
    expected, found = plain.contributions(weights), fused.contributions(weights)
    assert list(found) == list(expected)
    for key, part in expected.items():
        assert_close(found[key], part, rtol=1e-12, atol=1e-12)


def test_a_folded_convolution_is_still_a_place_to_stop() -> None:
    net = captured()
    amap = net.affine_map(X, until="whole_block.0")
    conv = PARTS["whole_block"][0][0]  # pyright: ignore[reportIndexIssue]
    assert_close(amap.value, conv(X))
    assert_close(amap(X), conv(X))
    unit = torch.zeros_like(amap.value)
    unit[:, 1, 2, 3] = 1
    patch = only(amap.rmv(unit))[:, :, 2:5, 3:6]
    assert_close(patch[0], conv.weight[1].detach())


@pytest.mark.parametrize(
    ("pads", "mode", "value", "convolution", "folded"),
    [
        ((1, 1, 2, 2), "constant", 0.0, nn.Conv2d(2, 3, 3, 2), True),
        ((2, 2), "constant", 0.0, nn.Conv2d(2, 4, 3, padding=1, dilation=2, groups=2), True),
        ((1, 2, 1, 2), "constant", 0.0, nn.Conv2d(2, 3, 3), False),  # one side more
        ((1, 1, 1, 1), "constant", 0.5, nn.Conv2d(2, 3, 3), False),
        ((1, 1, 1, 1), "reflect", 0.0, nn.Conv2d(2, 3, 3), False),
        ((-1, -1, 0, 0), "constant", 0.0, nn.Conv2d(2, 3, 3), False),
        ((0, 0, 0, 0, 1, 1), "constant", 0.0, nn.Conv2d(4, 3, 3), False),  # of channels
        ((1, 1, 1, 1), "constant", 0.0, nn.ConvTranspose2d(2, 3, 3), False),
    ],
    ids=str,
)
def test_zeros_around_are_folded(
    pads: tuple[int, ...], mode: str, value: float, convolution: nn.Module, folded: bool
) -> None:
    module = Net(
        lambda m, x: m.conv(nn.functional.pad(x, pads, mode, value if mode == "constant" else None)), conv=convolution
    ).double()
    x = torch.randn(2, 2, 8, 9, dtype=torch.float64)
    graph = ma.capture(module, x[:1]).graph
    shorter = fold(graph)
    assert (len(shorter.steps) < len(graph.steps)) == folded
    assert_close(shorter.run((x,))[0], module(x).detach(), rtol=1e-12, atol=1e-12)
