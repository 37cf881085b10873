"""Regions in full space: against brute force, counts of arrangements, sampled codes, and a second algorithm."""

from __future__ import annotations

import sys
from math import comb, factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._partition import region, regions
from maxaffine._partition.space import polytope
from maxaffine._partition.space.polytope import corners, essential, largest_ball, nearest, volume
from tests.oracles import count_regions
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
    _, on = corners(normals, slack)
    hull = {n for n, places in enumerate(on) if len(places) >= size}
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


def test_inconsistencies_name_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    net = ma.capture(mlp(2, 5, 3), torch.zeros(1, 2, dtype=F64))
    found = region(net, torch.full((1, 2), 0.3, dtype=F64), bounds=(-1, 1))
    inner = next(n for n, facet in enumerate(found.facets) if facet.units[0][0] != "bounds")
    with pytest.raises(ma.PartitionError, match="should change") as caught:
        found.beyond(inner, found.x.numpy(), 1e-3)  # x is no place on the facet
    assert caught.value.place == tuple(found.x.tolist())
    monkeypatch.setattr("maxaffine._partition.space.enumeration.volume", lambda places, on: 0.1)
    with pytest.raises(ma.PartitionError, match=r"(?s)volumes.*cure: .*shift the box") as caught:
        regions(net, (-1, 1))


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


@pytest.mark.parametrize(("features", "units"), [(1, 7), (2, 9), (3, 7), (4, 6)])
def test_counts_of_arrangements(features: int, units: int) -> None:
    """K hyperplanes in general position cut D dimensions into sum of K over 0..D regions."""
    torch.manual_seed(features)
    module = nn.Sequential(nn.Linear(features, units), nn.ReLU()).double()
    net = ma.capture(module, torch.zeros(1, features, dtype=F64))
    found = regions(net, (-1e4, 1e4))
    assert len(found) == sum(comb(units, k) for k in range(features + 1))


class TestPolytopesThatQhullGivesUp:
    @pytest.fixture
    def without_qhull(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(*arguments: object) -> None:
            raise spatial.QhullError("QH6271 qhull topology error")

        monkeypatch.setattr(spatial, "HalfspaceIntersection", failing)
        monkeypatch.setattr(spatial, "ConvexHull", failing)

    def test_the_same_regions_without_it(self, without_qhull: None) -> None:
        """Against linear programs alone, which know neither corners nor volumes."""
        module = mlp(3, 4, 4, 1)
        found = regions(ma.capture(module, torch.zeros(1, 3, dtype=F64)), (-1, 1))
        assert len(found) == count_regions(module, -1.0, 1.0)
        assert float(found.volumes.sum()) == pytest.approx(8.0, rel=1e-12)

    def test_corners_that_coincide_up_to_rounding(self) -> None:
        """A box in five dimensions where Qhull failed in the volume of a region; counted by linear programs."""
        torch.manual_seed(0)
        sizes = [(5, 10), (10, 10), (10, 1)]
        layers: list[nn.Module] = [nn.Linear(a, b, dtype=F64) for a, b in sizes]
        module = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        middle = np.array([-0.3, -0.3, 0.5, 0.5, 0.0])
        found = regions(ma.capture(module, torch.zeros(1, 5, dtype=F64)), (middle - 0.3, middle + 0.3))
        assert len(found) == 102
        assert float(found.volumes.sum()) == pytest.approx(0.6**5, rel=1e-12)

    @pytest.mark.parametrize("size", [2, 3, 4, 5])
    @pytest.mark.parametrize("qhull", [True, False])
    def test_corners_where_many_sides_meet(self, size: int, qhull: bool, request: pytest.FixtureRequest) -> None:
        """A cross-polytope: 2^D sides, 2^(D-1) of them at each of 2 D corners, its volume 2^D / D!."""
        if not qhull:
            request.getfixturevalue("without_qhull")
        signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * size), -1).reshape(-1, size)
        beside = np.full(size, (1 - 1e-7) / size)  # seen from a place close to one side
        normals = signs / np.sqrt(size)
        places, on = corners(normals, (1 - signs @ beside) / np.sqrt(size))
        assert sorted(np.round(places + beside, 9).tolist()) == sorted(
            [*np.eye(size).tolist(), *(-np.eye(size)).tolist()]
        )
        assert [len(numbers) for numbers in on] == [size] * 2**size
        assert volume(places, on) == pytest.approx(2**size / factorial(size), rel=1e-9)

    def test_a_side_too_many_is_noticed(self, without_qhull: None, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = polytope.essential
        monkeypatch.setattr(polytope, "essential", lambda normals, slack: whole(normals, slack)[1:])
        with pytest.raises((ma.PartitionError, ValueError)):
            regions(ma.capture(mlp(2, 3, 1), torch.zeros(1, 2, dtype=F64)), (-1, 1))

    def test_nothing_between_two_boundaries(self) -> None:
        normals = np.concatenate([np.eye(2), -np.eye(2)])
        with pytest.raises(ma.PartitionError, match="holds no ball larger than 5e-10"):
            corners(normals, np.array([1.0, 5e-10, 1.0, 5e-10]))


def test_all_regions_against_sampling() -> None:
    net = ma.capture(mlp(2, 10, 10, 2), torch.zeros(1, 2, dtype=F64))
    found = regions(net, (-2, 3))
    points = 5 * torch.rand(20_000, 2, dtype=F64) - 2
    both = ma.Codes.concat([found.codes, net.codes(points)]).region_ids()
    assert int(both[: len(found)].max()) + 1 == len(found)
    assert int(both.max()) + 1 == len(found)
    seen = torch.bincount(both[len(found) :], minlength=len(found))[both[: len(found)]] / len(points) * 25.0
    assert (found.volumes[seen == 0] < 0.02).all()
    assert_close(seen.double(), found.volumes, atol=0.15, rtol=0)
    flips = (found.codes["1"].unpack() != 0).long(), (found.codes["3"].unpack() != 0).long()
    a, b = found.neighbors.T
    assert sum((code[a] != code[b]).sum(1) for code in flips).eq(1).all()  # type: ignore[union-attr]
    assert_close(found.affine_map().value, net(found.points))


def test_max_pool_and_kinks_of_three_pieces() -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([nn.functional.relu6(3 * x), x.amax(1, keepdim=True)], 1)

    net = ma.capture(Mixed(), torch.zeros(1, 2, dtype=F64))
    # three strips each way, and the diagonal splits the three squares on it
    assert len(regions(net, (-4, 5))) == 9 + 3


def test_boundaries_along_the_sides_of_the_box() -> None:
    layer = nn.Linear(2, 4).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        layer.bias.copy_(torch.tensor([-2.0, -2.0, 2.0, 0.0]))
    found = regions(ma.capture(nn.Sequential(layer, nn.ReLU()), torch.zeros(1, 2, dtype=F64)), (-2, 2))
    assert found.volumes.tolist() == pytest.approx([8.0, 8.0])


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
    with pytest.raises(ma.BadInput, match="up to 5 dimensions"):
        regions(net, (-1, 1))
    small = ma.capture(mlp(2, 12, 3), torch.zeros(1, 2, dtype=F64))
    with pytest.raises(ma.BadInput, match="max_regions"):
        regions(small, (-9, 9), max_regions=3)


@pytest.mark.parametrize("bounds", [3, (1, -1), (0, float("inf")), ([0, 0, 0], 1), "ab"])
def test_bad_bounds(bounds) -> None:
    net = ma.capture(nn.ReLU(), torch.zeros(1, 2))
    with pytest.raises((ma.BadInput, ValueError)):
        regions(net, bounds)
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
    for name in ("scipy.optimize", "scipy.spatial"):
        monkeypatch.setitem(sys.modules, name, None)
    message = r"need scipy, which is absent; pip install 'maxaffine\[partition\]'"
    for name in ("ball", "essential", "facets"):
        with pytest.raises(ma.MaxAffineError, match=message):
            getattr(found, name)
    with pytest.raises(ma.MaxAffineError, match=message):
        regions(net, (-1.0, 1.0))
    assert found.distance > 0
