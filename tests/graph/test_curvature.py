"""The input-convexity certificate: proved where its rules apply, and never for a function that is not convex."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maxaffine as ma
from maxaffine._graph import Curvature, curvatures
from tests.zoo.networks import Net, NonNegativeLinear

Network = Callable[[Any, Tensor], Tensor]
CONVEX: dict[str, Network] = {
    "affine": lambda m, x: m.a(x),
    "maximum_of_affine": lambda m, x: torch.maximum(m.a(x), m.b(x)),
    "abs_of_affine": lambda m, x: m.a(x).abs(),
    "relu_of_convex": lambda m, x: (m.a(x).abs() - 1).relu(),
    "nonnegative_layer": lambda m, x: m.p(m.a(x).relu()).relu(),
    "sum_of_convex": lambda m, x: m.a(x).relu() + 2 * m.b(x).abs() + m.a(x),
    "minus_concave": lambda m, x: 1 - torch.neg(m.a(x).relu()),
    "maxima_in_a_row": lambda m, x: m.a(x).relu().amax(1, keepdim=True),
    "batch_norm_with_positive_scale": lambda m, x: m.norm(m.a(x).relu()),
    "leaky_of_convex": lambda m, x: F.leaky_relu(m.a(x).abs() - 1, 0.1),
    "concatenated": lambda m, x: torch.cat([m.a(x).relu(), m.b(x)], 1),
    "running_maximum": lambda m, x: m.a(x).relu().cummax(1).values,
    "constant": lambda m, x: x * 0 + 1,
}
NOT_CONVEX: dict[str, Network] = {
    "concave": lambda m, x: torch.minimum(m.a(x), m.b(x)),
    "minus_convex": lambda m, x: -m.a(x).relu(),
    "signed_layer": lambda m, x: m.c(m.a(x).relu()),
    "less_than_itself": lambda m, x: -torch.sub(y := m.a(x).relu(), y, alpha=0.5),
    "a_negative_share_of_itself": lambda m, x: -torch.add(y := m.a(x).relu(), y, alpha=-0.5),
    "negative_average": lambda m, x: F.avg_pool2d(m.a(x).relu().view(-1, 1, 2, 2), 2, divisor_override=-4).flatten(1),
    "difference": lambda m, x: m.a(x).relu() - m.b(x).relu(),
    "decreasing_of_convex": lambda m, x: (1 - m.a(x).abs()).relu(),
    "abs_of_convex": lambda m, x: (m.a(x).abs() - 1).abs(),
    "leaky_with_negative_slope": lambda m, x: F.leaky_relu(m.a(x).abs() - 1, -0.1),
    "steep_below": lambda m, x: F.leaky_relu(m.a(x), 1.5),
    "clipped": lambda m, x: m.a(x).clamp(-0.5, 0.5),
    "smallest": lambda m, x: m.a(x).amin(1, keepdim=True),
    "sorted": lambda m, x: m.a(x).sort(1).values,
    "batch_norm_with_negative_scale": lambda m, x: m.mirror(m.a(x).relu()),
    "gate": lambda m, x: m.a(x) * (m.b(x) > 0),
    "step": lambda m, x: (m.a(x) > 0).to(x.dtype),
    "jump": lambda m, x: F.hardshrink(m.a(x), 0.4),
    "chosen_by_another": lambda m, x: torch.where(m.a(x) > 0, m.b(x), m.b(x).abs()),
    "minimum_of_convex": lambda m, x: torch.minimum(m.a(x).relu(), m.b(x).relu()),
}
NETWORKS = CONVEX | NOT_CONVEX


@cache
def captured() -> tuple[nn.Module, ma.SplineNetwork]:
    """All networks side by side."""
    torch.manual_seed(0)
    norms = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    nn.init.uniform_(norms[0].weight, 0.5, 1.5)
    nn.init.uniform_(norms[1].weight, -1.5, -0.5)
    parts = {"a": nn.Linear(3, 4), "b": nn.Linear(3, 4), "c": nn.Linear(4, 4), "p": NonNegativeLinear(4, 2)}
    module = Net(lambda m, x: [network(m, x) for network in NETWORKS.values()], **parts, norm=norms[0], mirror=norms[1])
    module = module.double().eval()
    return module, ma.capture(module, torch.zeros(1, 3, dtype=torch.float64))


def proved(name: str) -> Curvature:
    _, net = captured()
    return curvatures(net.graph)[net.graph.outputs[list(NETWORKS).index(name)]]


def bends_down(name: str) -> bool:
    """Whether the value at some midpoint lies above the chord."""
    module, _ = captured()
    x, y = torch.randn(2, 2000, 3, dtype=torch.float64)
    place = list(NETWORKS).index(name)
    with torch.no_grad():
        low, middle, high = (module(point)[place] for point in (x, (x + y) / 2, y))
    return bool((middle > (low + high) / 2 + 1e-9).any())


@pytest.mark.parametrize("name", CONVEX)
def test_proves_what_the_rules_reach(name: str) -> None:
    assert proved(name) in (Curvature.CONVEX, Curvature.AFFINE, Curvature.CONSTANT)
    assert not bends_down(name)


@pytest.mark.parametrize("name", NOT_CONVEX)
def test_never_proves_what_is_false(name: str) -> None:
    assert proved(name) in (Curvature.CONCAVE, Curvature.UNKNOWN)
    assert bends_down(name)


def test_the_network_is_convex_when_every_output_is() -> None:
    _, net = captured()
    assert not net.convex
    assert net.part(until="norm").convex
    assert not net.part(until="mirror").convex


def test_tells_affine_constant_and_concave_apart() -> None:
    assert proved("affine") is Curvature.AFFINE
    assert proved("minus_convex") is Curvature.CONCAVE
