"""The region of an input in full space: against brute force, sampled codes, and a second algorithm."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._partition import region
from maxaffine._partition.space.cells import Cells, clipped
from maxaffine._partition.space.polytope import essential, largest_ball, nearest
from tests.random_networks import RandomCase, random_cases
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured

F64 = torch.float64
CASES = [
    case
    for case in ZOO
    if case.name
    in {
        "residual", "two_inputs", "tuple_output", "resnet", "rnn_time_first", "max_pool_overlapping", "argmax",
        "gather_by_own_argmax", "where_on_comparison", "sort", "topk", "cummax", "relu6",
    }
    or "max_pool" in case.name
]  # fmt: skip


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def bounding_rays(found: ma.partition.Region, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions and the distance to the region's end along each, by bisection of codes alone."""
    random = np.random.default_rng(0).standard_normal((count, len(found.x)))
    rays = random / np.linalg.norm(random, axis=1, keepdims=True)
    own = found.space.codes(found.x.numpy()[None])
    low, high = np.zeros(count), np.full(count, 16.0)
    for _ in range(60):
        middle = (low + high) / 2
        inside = (found.space.codes(found.x.numpy() + middle[:, None] * rays) == own).all(1)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return rays, low


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ends_where_the_codes_change(case: Case) -> None:
    net = captured(case)
    found = region(net, case.inputs(1), output=0)
    rays, reach = bounding_rays(found, 30)
    ahead = rays @ found.halfspaces.normals.T
    slack = found.halfspaces.slack(found.x.numpy())
    wait = np.where(ahead > 1e-12, slack / np.where(ahead > 1e-12, ahead, 1), np.inf).min(1, initial=np.inf)
    np.testing.assert_allclose(np.minimum(wait, 16.0), reach, rtol=1e-7, atol=1e-9)


@settings(max_examples=3)
@given(case=random_cases(6), seed=st.integers(0, 100))
def test_random_networks(case: RandomCase, seed: int) -> None:
    x = case.inputs(1, seed)
    net = ma.capture(case.network, x)
    if net.graph.values[net.graph.outputs[0]].batch is None:
        return
    try:
        found = region(net, x, output=0)
    except ma.NotPiecewiseAffine:
        return
    rays, reach = bounding_rays(found, 10)
    ahead = rays @ found.halfspaces.normals.T
    slack = found.halfspaces.slack(found.x.numpy())
    wait = np.where(ahead > 1e-12, slack / np.where(ahead > 1e-12, ahead, 1), np.inf).min(1, initial=np.inf)
    np.testing.assert_allclose(np.minimum(wait, 16.0), reach, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_essential_halfspaces_by_two_algorithms(size: int) -> None:
    random = np.random.default_rng(size)
    normals = random.standard_normal((60, size))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    slack = random.uniform(0.5, 3, 60)
    normals = np.concatenate([normals, np.eye(size), -np.eye(size), normals[:5]])
    slack = np.concatenate([slack, np.full(2 * size, 2.0), slack[:5]])  # the last five twice
    found = essential(normals, slack)
    places = clipped(Cells.box(np.full(size, -9.0), np.full(size, 9.0)), normals, slack).places
    hull = set(np.flatnonzero((np.abs(places @ normals.T - slack) < 1e-9).sum(0) >= size).tolist())
    first = {n if n < 60 + 2 * size else n - 60 - 2 * size for n in hull}
    assert {int(n) if n < 60 + 2 * size else int(n) - 60 - 2 * size for n in found} == first


def test_a_halfspace_that_meets_the_others_in_a_corner_is_redundant() -> None:
    """Three lines through one corner: rays along the normal of the middle one end in the corner itself."""
    normals = np.array([[1.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    slack = np.array([1.0, 2**0.5, 1.0, 1.0, 1.0])
    for order in ([0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [4, 3, 2, 1, 0]):
        found = essential(normals[order], slack[order])
        assert sorted(np.array(order)[found].tolist()) == [0, 2, 3, 4]


def test_a_halfspace_that_is_dropped_in_error_is_noticed() -> None:
    """Without one of the essential halfspaces the polytope is larger: the check above can fail."""
    normals = np.concatenate([np.eye(3), -np.eye(3)])
    assert essential(normals, np.ones(6)).tolist() == list(range(6))
    assert essential(normals[:5], np.ones(5)).tolist() == list(range(5))
    redundant = np.concatenate([normals, np.ones((1, 3)) / 3**0.5])
    assert essential(redundant, np.append(np.ones(6), 3**0.5 + 1e-3)).tolist() == list(range(6))
    assert essential(redundant, np.append(np.ones(6), 3**0.5 - 1e-3)).tolist() == list(range(7))


def test_ball_and_nearest_point_of_a_square() -> None:
    normals, slack = np.concatenate([np.eye(2), -np.eye(2)]), np.array([1.0, 3.0, 1.0, 1.0])
    center, radius = largest_ball(normals, slack)
    assert radius == pytest.approx(1) and center[0] == pytest.approx(0)
    assert largest_ball(normals[:2], slack[:2])[1] == np.inf
    step = nearest(normals, slack, np.array([-1.0, -1.0]), 3.0)
    assert step is not None
    np.testing.assert_allclose(step, [1, 2], atol=1e-9)  # (1.5, 1.5) lies outside
    assert nearest(normals, slack, np.array([-1.0, 0.0]), 1.5) is None


def test_cube_by_hand() -> None:
    net = ma.capture(nn.ReLU(), torch.zeros(1, 3))
    found = region(net, torch.tensor([[0.5, -2.0, 1.0]]), bounds=(-3, 3))
    assert found.distance == 0.5
    assert [facet.units[0] for facet in found.facets[:1]] == [("relu", 0)]
    assert len(found.facets) == 6
    center, radius = found.ball
    assert radius == pytest.approx(1.5)
    assert_close(center, torch.tensor([1.5, -1.5, 1.5], dtype=F64))
    flips = {neighbor.flipped for neighbor in found.neighbors()}
    assert flips == {(("relu", 0),), (("relu", 1),), (("relu", 2),)}
    assert found.contains(torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])).tolist() == [True, False]


def test_units_that_coincide_are_one_facet() -> None:
    layer = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0], [-2.0, 0], [0.0, 0.0]]))
    found = region(
        ma.capture(nn.Sequential(layer, nn.ReLU()), torch.zeros(1, 2, dtype=F64)), torch.ones(1, 2, dtype=F64)
    )
    (facet,) = found.facets
    assert set(facet.units) == {("1", 0), ("1", 1)}
    assert found.neighbors()[0].flipped == (("1", 0), ("1", 1))


def test_a_unit_that_is_zero_behind_a_facet_keeps_its_code() -> None:
    """Where x > 0 the second layer reads x alone; -x is negative, and zero behind the facet: piece 0 on both sides."""
    first, second = nn.Linear(2, 2, bias=False).double(), nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        first.weight.copy_(torch.eye(2))
        second.weight.copy_(torch.tensor([[-1.0, 0.0], [2.0, 0.0]]))
    net = ma.capture(nn.Sequential(first, nn.ReLU(), second, nn.ReLU()), torch.zeros(1, 2, dtype=F64))
    found = region(net, torch.tensor([[1.0, 2.0]], dtype=F64), bounds=(-3, 3))
    (across,) = (n for n in found.neighbors() if ("1", 0) in found.facets[n.facet].units)
    assert set(found.facets[across.facet].units) == {("1", 0), ("3", 0), ("3", 1)}
    assert across.flipped == (("1", 0), ("3", 1))


def test_neighbors_are_mutual_and_flip_one_unit() -> None:
    net = ma.capture(mlp(6, 8, 8, 3), torch.zeros(1, 6, dtype=F64))
    found = region(net, torch.full((1, 6), 0.3, dtype=F64))
    for neighbor in found.neighbors():
        assert len(neighbor.flipped) == 1 and neighbor.flipped == found.facets[neighbor.facet].units
        other = region(net, neighbor.point[None])
        assert neighbor.flipped in {facet.units for facet in other.facets}
        assert other.contains(neighbor.place[None], 1e-7).item()


def test_inconsistencies_name_their_place() -> None:
    net = ma.capture(mlp(2, 5, 3), torch.zeros(1, 2, dtype=F64))
    found = region(net, torch.full((1, 2), 0.3, dtype=F64), bounds=(-1, 1))
    inner = next(n for n, facet in enumerate(found.facets) if facet.units[0][0] != "bounds")
    with pytest.raises(ma.PartitionError, match="should change") as caught:
        found.beyond(inner, found.x.numpy(), 1e-3)  # x is no place on the facet
    assert caught.value.place == tuple(found.x.tolist())


def test_nearest_decision_against_sampling() -> None:
    module = mlp(2, 5, 3, seed=3)
    net = ma.capture(module, torch.zeros(1, 2, dtype=F64))
    seen = 0
    for seed in range(16):
        x = 2 * torch.randn(1, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))
        found = region(net, x, bounds=(-9.0, 9.0))
        angle = torch.linspace(0, 2 * torch.pi, 721, dtype=F64)[:-1]
        radii = torch.linspace(0, 3, 151, dtype=F64)
        points = (x + radii[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)).reshape(-1, 2)
        inside = found.contains(points)
        other = (module(points).argmax(1) != module(x).argmax(1)) & inside
        nearest_seen = (points - x).norm(dim=1)[other].min() if other.any() else None
        if found.decision is None:
            assert nearest_seen is None
            continue
        distance, place, rival = found.decision
        values = module(place[None])[0].detach()
        assert values[rival] == pytest.approx(values[module(x).argmax()].item(), abs=1e-9)
        assert found.contains(place[None], 1e-6).item()
        if nearest_seen is not None:
            assert distance - 1e-9 <= nearest_seen <= distance + 0.05
            seen += 1
    assert seen >= 3


def test_medians_are_refused_by_name() -> None:
    class Median(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.median(1).values

    net = ma.capture(Median(), torch.zeros(1, 3))
    with pytest.raises(ma.NotPiecewiseAffine, match="median.*convex"):
        region(net, torch.randn(1, 3))


def test_too_large_is_refused() -> None:
    net = ma.capture(mlp(6, 12, 3), torch.zeros(1, 6, dtype=F64))
    x = torch.zeros(1, 6, dtype=F64)
    with pytest.raises(ma.BadInput, match="above limit=10"):
        region(net, x, limit=10)


@pytest.mark.parametrize("bounds", [3, (1, -1), (0, float("inf")), ([0, 0, 0], 1), "ab"])
def test_bad_bounds(bounds) -> None:
    net = ma.capture(nn.ReLU(), torch.zeros(1, 2))
    with pytest.raises((ma.BadInput, ValueError)):
        region(net, torch.zeros(1, 2), bounds=bounds)


def test_x_on_a_boundary() -> None:
    net = ma.capture(nn.ReLU(), torch.zeros(1, 2))
    found = region(net, torch.tensor([[0.0, 1.0]]), bounds=(-2, 2))
    assert found.distance == 0 and len(found.facets) == 4
    assert found.codes()["relu"].unpack().tolist() == [[0, 1]]
    assert {n.flipped for n in found.neighbors()} == {(("relu", 0),), (("relu", 1),)}
    with pytest.raises(ma.BadInput, match="outside the box"):
        region(net, torch.tensor([[5.0, 1.0]]), bounds=(-2, 2))


def test_without_scipy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    net = ma.capture(mlp(2, 6, 2), torch.zeros(1, 2, dtype=F64))
    found = region(net, torch.ones(1, 2, dtype=F64))
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    message = r"need scipy, which is absent; pip install 'maxaffine\[partition\]'"
    for name in ("ball", "essential", "facets"):
        with pytest.raises(ma.MaxAffineError, match=message):
            getattr(found, name)
    assert found.distance > 0
