"""All regions of a box: against linear programs, counts of arrangements, sampled codes, and shapes known by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb, factorial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._partition import Regions, region, regions
from maxaffine._partition.space import growth
from maxaffine._partition.space.cells import Cells, clipped, volumes
from maxaffine._partition.space.polytope import largest_ball
from tests.oracles import count_regions

F64 = torch.float64


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def captured(module: nn.Module, features: int) -> ma.SplineNetwork:
    return ma.capture(module, torch.zeros(1, features, dtype=F64))


class Of(nn.Module):
    """A function of inputs after a linear layer, or of the inputs themselves."""

    def __init__(self, function: Any, first: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.first = function, first or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


def whole_numbers(module: nn.Module, seed: int) -> nn.Module:
    """The module with small whole weights: units coincide, vanish, and meet in corners and along sides."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator) / (1 + (parameter.dim() == 1)))
    return module


def keys(codes: ma.Codes, found: Regions) -> list[tuple[int, ...]]:
    return [tuple(row) for row in torch.cat([codes[k].unpack().flatten(1) for k in found.space.operators], 1).tolist()]


def check_whole(net: ma.SplineNetwork, found: Regions, count: int = 2000) -> None:
    """Volumes add up, regions have codes of their own, and what is drawn at random falls into them."""
    assert found.exact and float(found.volumes.min()) > 0
    own = keys(found.codes, found)
    assert len(set(own)) == len(found)
    low, high = found.low, found.high
    generator = torch.Generator().manual_seed(1)
    points = low + (high - low) * torch.rand(count, len(low), dtype=F64, generator=generator)
    # Where the codes of a point are unknown, it is a tie within rounding, which the point just beside has too: the
    # values there are those of the region that the cells say it is in.
    strange = [p for p, key in zip(points, keys(net.codes(points), found), strict=True) if key not in set(own)]
    if strange:
        places = torch.stack(strange)
        amap = found.affine_map()
        values, slopes = torch.as_tensor(amap.value), torch.as_tensor(amap.slopes).flatten(1, -2)
        near = [inside(found, place) for place in places]
        moved = values[near].flatten(1) + torch.einsum("nij,nj->ni", slopes[near], places - found.points[near])
        torch.testing.assert_close(moved, net(places).flatten(1), rtol=0, atol=1e-9)


def inside(found: Regions, place: Tensor) -> int:
    """The region in which a place lies deepest, from its facets."""
    depths = [min(float(f.bound - f.normal @ place) for f in found.facets(n)) for n in range(len(found))]
    return int(np.argmax(depths))


@pytest.mark.parametrize(("features", "units"), [(1, 7), (2, 9), (3, 7), (4, 6), (6, 7)])
def test_counts_of_arrangements(features: int, units: int) -> None:
    """K hyperplanes in general position cut D dimensions into sum of K over 0..D regions."""
    torch.manual_seed(features)
    net = captured(nn.Sequential(nn.Linear(features, units), nn.ReLU()).double(), features)
    assert len(regions(net, (-1e4, 1e4))) == sum(comb(units, k) for k in range(features + 1))


@pytest.mark.parametrize(("features", "seed"), [(1, 0), (2, 0), (2, 1), (3, 2), (4, 3)])
def test_counts_by_linear_programs(features: int, seed: int) -> None:
    module = mlp(features, 5, 4, 1, seed=seed)
    net = captured(module, features)
    found = regions(net, (-1, 1))
    assert len(found) == count_regions(module, -1.0, 1.0)
    check_whole(net, found)


@pytest.mark.parametrize("seed", range(15))
def test_five_dimensions(seed: int) -> None:
    """Where three of these fifteen ended in Qhull's errors."""
    net = captured(mlp(5, 7, 7, 1, seed=seed), 5)
    found = regions(net, (-1, 1))
    assert len(set(keys(found.codes, found))) == len(found)
    if seed % 5 == 0:
        check_whole(net, found)


def test_a_box_in_which_corners_nearly_coincide() -> None:
    """In five dimensions, counted by linear programs."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(a, b, dtype=F64) for a, b in [(5, 10), (10, 10), (10, 1)]]
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    middle = np.array([-0.3, -0.3, 0.5, 0.5, 0.0])
    found = regions(captured(module, 5), (middle - 0.3, middle + 0.3))
    assert len(found) == 102
    assert float(found.volumes.sum()) == pytest.approx(0.6**5, rel=1e-12)


@settings(max_examples=6)
@given(features=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_degenerate_weights(features: int, seed: int) -> None:
    net = captured(whole_numbers(mlp(features, 5, 5, 1), seed), features)
    check_whole(net, regions(net, (-1, 1)), 300)


def spoiled(module: nn.Sequential, how: str) -> nn.Sequential:
    """Weights of which many are the same, are zero, or put boundaries through corners of the box (-1, 1)."""
    generator = torch.Generator().manual_seed(3)
    for layer in (layer for layer in module if isinstance(layer, nn.Linear)):
        weight, bias = layer.weight.data, layer.bias.data
        if how == "twins" and len(weight) > 3:
            for parameter in (weight, bias):
                parameter[1:4] = torch.stack([parameter[0], -parameter[0], 2 * parameter[0]])
        if how == "without weights" and len(weight) > 3:
            weight[:3], bias[:3] = 0, torch.tensor([-1.0, 0.0, 1.0], dtype=F64)
        if how == "through corners":
            corner = torch.randint(0, 2, weight.shape, generator=generator) * 2.0 - 1
            bias.copy_(-(weight * corner).sum(1))
        if how == "pruned":
            weight.mul_(torch.rand(weight.shape, generator=generator) < 0.4)
    return module


@pytest.mark.parametrize(
    ("how", "features"),
    [("twins", 3), ("without weights", 4), ("through corners", 2), ("through corners", 3), ("pruned", 4)],
)
def test_regions_are_the_hulls_of_their_corners(how: str, features: int) -> None:
    """Volumes, sides and maps by Qhull's convex hulls, and each place in the one whose map it has."""
    module = spoiled(mlp(features, 6, 4, 2, seed=features), how)
    found = regions(captured(module, features), (-1, 1))
    check_whole(captured(module, features), found, 300)
    amap = found.affine_map()
    slopes, offsets = (torch.as_tensor(item).numpy() for item in (amap.slopes, amap.offsets))
    places = np.random.default_rng(0).uniform(-1, 1, (200, features))
    held, values = np.zeros(len(places), dtype=int), module(torch.from_numpy(places)).detach().numpy()
    for number, corners in enumerate(found.corners):
        hull = ConvexHull(corners.numpy())
        assert float(found.volumes[number]) == pytest.approx(hull.volume, rel=1e-7)
        planes = np.unique(np.round(hull.equations, 6) + 0.0, axis=0)
        mine = np.array([[*facet.normal.tolist(), -facet.bound] for facet in found.facets(number)])
        apart = np.abs(planes[:, None] - mine).max(2)
        assert apart.min(0).max() < 1e-5 and apart.min(1).max() < 1e-5
        inside = (places @ planes[:, :-1].T + planes[:, -1] < -1e-5).all(1)
        held += inside
        assert places[inside] @ slopes[number].T + offsets[number] == pytest.approx(values[inside], abs=1e-12)
    assert held.max() == 1 and held.mean() > 0.95


@pytest.mark.parametrize("how", ["twins", "through corners"])
def test_the_walk_over_the_surface_counts_the_same_faces(how: str) -> None:
    module = spoiled(mlp(3, 6, 4, 1, seed=2), how)
    net = captured(module, 3)
    values = module(torch.rand(300, 3, dtype=F64) * 2 - 1).detach()
    level = float(values.min() + values.max()) / 2
    shape, surface = regions(net, (-1, 1)).topology(level), ma.partition.surface(net, level, bounds=(-1, 1), lines=20)
    assert shape.faces == (len(surface.vertices), len(surface.mesh.edges[1]), len(surface))
    assert (shape.euler, shape.pieces) == (surface.euler, surface.components)


FUNCTIONS = {
    "largest of three": lambda x: x[:, :9].unflatten(1, (-1, 3)).amax(2),
    "largest of four, of ReLUs": lambda x: x.relu().unflatten(1, (-1, 4)).amax(2),
    "smallest of all": lambda x: x.amin(1, keepdim=True),
    "sorted": lambda x: x[:, :6].unflatten(1, (-1, 3)).sort(2).values.flatten(1),
    "second": lambda x: x.unflatten(1, (-1, 4)).topk(2, 2).values[..., 1],
    "clamped": lambda x: x.clamp(-0.3, 0.4).abs(),
    "residual": lambda x: (x + x.relu().flip(1).abs()).relu(),
    "jumps": lambda x: torch.where(x[:, :4] > 0, x[:, :4] + 1, -x[:, :4]).unflatten(1, (-1, 2)).amax(2),
    "hard shrinkage": lambda x: (nn.functional.hardshrink(x, 0.3)[:, :4].sum(1, keepdim=True) - 0.2).relu(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("whole", [False, True])
def test_every_family_of_boundaries(name: str, whole: bool) -> None:
    features, units = 2 if whole else 3, 4 if "jump" in name or "hard" in name else 12
    torch.manual_seed(features)
    module = Of(FUNCTIONS[name], nn.Linear(features, units))
    net = captured((whole_numbers(module, 7) if whole else module).double(), features)
    check_whole(net, regions(net, (-1, 1)), 300)


def test_orders_of_three_numbers() -> None:
    """Six orders; three that may win; of the two largest as many as of all three."""
    for function, count in (
        (lambda x: x.sort(1).values, 6),
        (lambda x: x.amax(1), 3),
        (lambda x: x.topk(2, 1).values, 6),
        (lambda x: torch.cat([nn.functional.relu6(6 * x), x.amax(1, keepdim=True)], 1), 27 + 9 - 3 + 3),
    ):
        found = regions(captured(Of(function), 3), (-1, 2))
        assert found.exact
        if count < 20:
            assert len(found) == count


def test_max_pool_and_kinks_of_three_pieces() -> None:
    net = captured(Of(lambda x: torch.cat([nn.functional.relu6(3 * x), x.amax(1, keepdim=True)], 1)), 2)
    # three strips each way, and the diagonal splits the three squares on it
    assert len(regions(net, (-4, 5))) == 9 + 3


def neighbors_by_programs(net: ma.SplineNetwork, found: Regions) -> set[tuple[int, int]]:
    """Pairs of regions that share more than an edge: each as halfspaces around its point, and a ball of a facet."""
    spaces = [region(net, point[None], bounds=(-1, 1)).halfspaces for point in found.points]
    pairs = set()
    for i, j in combinations(range(len(found)), 2):
        normals = np.concatenate([spaces[i].normals, spaces[j].normals])
        bounds = np.concatenate([spaces[i].bounds, spaces[j].bounds])
        opposite = np.argwhere(spaces[i].normals @ spaces[j].normals.T < 1e-9 - 1)
        for a, b in opposite:
            if abs(spaces[i].bounds[a] + spaces[j].bounds[b]) < 1e-9:
                normal, bound = spaces[i].normals[a], float(spaces[i].bounds[a])
                along = normals @ normal
                others = (np.abs(along) < 1 - 1e-9) | (np.abs(bounds - along * bound) > 1e-9)
                ball = largest_ball(normals[others], bounds[others], normal, bound)
                if ball[1] > 1e-7:
                    pairs.add((i, j))
                    break
    return pairs


@pytest.mark.parametrize("name", ["plain", "whole", "jumps"])
def test_neighbors_by_linear_programs(name: str) -> None:
    module = {
        "plain": lambda: mlp(3, 3, 3, 1, seed=1),
        "whole": lambda: whole_numbers(mlp(2, 3, 3, 1), 3),
        "jumps": lambda: Of(FUNCTIONS["jumps"], nn.Linear(2, 4, dtype=F64)),
    }[name]()
    torch.manual_seed(2)
    net = captured(module, 3 if name == "plain" else 2)
    found = regions(net, (-1, 1))
    assert 8 < len(found) < 40
    assert {tuple(pair) for pair in found.neighbors.tolist()} == neighbors_by_programs(net, found)


def test_neighbors_differ_in_one_unit_in_general_position() -> None:
    net = captured(mlp(3, 8, 8, 2), 3)
    found = regions(net, (-1, 1))
    codes = torch.tensor(keys(found.codes, found))
    a, b = found.neighbors.T
    assert (codes[a] != codes[b]).sum(1).eq(1).all()
    torch.testing.assert_close(found.affine_map().value, net(found.points))


def test_facets_say_what_changes_and_who_is_beyond() -> None:
    layer = nn.Linear(2, 3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]))
        layer.bias.copy_(torch.tensor([-0.5, 1.0, 0.0]))
    found = regions(captured(nn.Sequential(layer, nn.ReLU()), 2), (-1, 1))
    assert len(found) == 2
    left = int(found.points[:, 0].argmin())
    facets = found.facets(left)
    assert [facet.units for facet in facets if facet.neighbor is None].count((("bounds", 2),)) == 1
    (inner,) = (facet for facet in facets if facet.neighbor is not None)
    assert inner.neighbor == 1 - left and inner.units == (("1", 0), ("1", 1))
    assert inner.bound == pytest.approx(0.5) and inner.normal.tolist() == pytest.approx([1, 0])
    assert inner.distance == pytest.approx(0.75)
    assert sorted(f.units[0][1] for f in facets if f.neighbor is None) == [1, 2, 3]


def test_facets_are_those_of_the_region_of_a_point() -> None:
    net = captured(mlp(3, 6, 6, 1), 3)
    found = regions(net, (-1, 1))
    for number in range(0, len(found), 9):
        alone = region(net, found.points[number : number + 1], bounds=(-1, 1))
        mine, its = found.facets(number), alone.facets
        assert [facet.distance for facet in mine] == pytest.approx([facet.distance for facet in its], abs=1e-9)
        assert [facet.units for facet in mine] == [facet.units for facet in its]


def test_boundaries_along_the_sides_of_the_box() -> None:
    layer = nn.Linear(2, 4).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        layer.bias.copy_(torch.tensor([-2.0, -2.0, 2.0, 0.0]))
    found = regions(captured(nn.Sequential(layer, nn.ReLU()), 2), (-2, 2))
    assert found.volumes.tolist() == pytest.approx([8.0, 8.0])


def test_a_region_with_more_sides_than_a_word_has_bits() -> None:
    """A hundred tangents of a circle: sides are bits, which then take two words."""
    angle = 2 * torch.pi * torch.arange(100, dtype=F64) / 100
    layer = nn.Linear(2, 100).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([angle.cos(), angle.sin()], 1))
        layer.bias.fill_(-1)
    found = regions(captured(nn.Sequential(layer, nn.ReLU()), 2), (-1.5, 1.5))
    middle = int(found.points.norm(dim=1).argmin())
    assert len(found.facets(middle)) == len(found.corners[middle]) == 100
    assert float(found.volumes[middle]) == pytest.approx(100 * np.tan(np.pi / 100)) and found.exact


class TestCells:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
    def test_cross_polytopes(self, size: int) -> None:
        """2^D sides, 2^(D-1) of them at each of 2 D corners, its volume 2^D / D!."""
        signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * size), -1).reshape(-1, size)
        found = clipped(Cells.box(np.full(size, -2.0), np.full(size, 2.0)), signs, np.ones(len(signs)))
        wanted = [*np.eye(size).tolist(), *(-np.eye(size)).tolist()]
        assert sorted((np.round(found.places, 9) + 0.0).tolist()) == sorted(wanted)
        assert int(found.sides().sum()) == 2**size
        assert volumes(found)[0] == pytest.approx(2**size / factorial(size), rel=1e-12)

    def test_a_side_that_is_missing_changes_the_volume(self) -> None:
        whole = Cells.box(np.zeros(3), np.ones(3))
        assert volumes(whole)[0] == 1
        broken = replace(whole, starts=np.array([0, 7]), corner=whole.corner[:7], tight=whole.tight[:7])
        assert volumes(broken)[0] < 0.9

    def test_nothing_lies_beyond_a_halfspace(self) -> None:
        box = Cells.box(np.zeros(2), np.ones(2))
        assert volumes(clipped(box, np.array([[1.0, 1.0]]), np.array([0.5]))) == pytest.approx([0.125])
        assert volumes(clipped(box, np.array([[1.0, 1.0]]), np.array([2.0]))) == pytest.approx([1])


def test_a_cell_that_is_lost_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = growth.cut

    def losing(cells: Cells, value: np.ndarray, flat: float) -> Cells:
        found = whole(cells, value, flat)
        return found.take(np.arange(len(found)) > 0) if len(found) == 5 else found

    net = captured(mlp(2, 12, 1), 2)
    assert len(regions(net, (-1, 1))) > 5
    monkeypatch.setattr(growth, "cut", losing)
    with pytest.raises(ma.PartitionError, match=r"(?s)no neighbor.*cure: .*shift the box"):
        regions(net, (-1, 1))


def square(x: Tensor) -> Tensor:
    return x.abs().amax(1, keepdim=True)


SHAPES: dict[str, tuple[Any, int, tuple[int, ...], int]] = {
    # what is above zero outside, dimensions, Betti numbers of its boundary, Euler characteristic
    "a square": (lambda x: square(x) - 1, 2, (1, 1), 0),
    "an annulus": (lambda x: (square(x) - 1).abs() - 0.3, 2, (2, 2), 0),
    "two squares": (lambda x: square(torch.cat([x[:, :1].abs() - 1, x[:, 1:]], 1)) - 0.5, 2, (2, 2), 0),
    "a line": (lambda x: x.sum(1, keepdim=True), 2, (1, 0), 1),
    "a cube": (lambda x: square(x) - 1, 3, (1, 0, 1), 2),
    "an octahedron": (lambda x: x.abs().sum(1, keepdim=True) - 1, 3, (1, 0, 1), 2),
    "a shell": (lambda x: (square(x) - 1).abs() - 0.3, 3, (2, 0, 2), 4),
    "a torus": (lambda x: torch.maximum((square(x[:, :2]) - 1).abs(), x[:, 2:].abs()) - 0.4, 3, (1, 2, 1), 0),
    "a pipe through the box": (lambda x: square(x[:, :2]) - 1, 3, (1, 1, 0), 0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_boundaries(name: str) -> None:
    function, size, betti, euler = SHAPES[name]
    found = regions(captured(Of(function), size), (-2, 2)).topology()
    assert found.betti == betti and found.euler == euler and found.pieces == betti[0]
    assert sum((-1) ** dim * count for dim, count in enumerate(found.faces)) == euler
    # The same with the sign turned: what is above zero is then below, and nothing is zero all over a region.
    turned = regions(captured(Of(lambda x: -function(x)), size), (-2, 2)).topology()
    assert turned.betti == betti and turned.domains == {1 - c: n for c, n in found.domains.items()}


def test_the_faces_of_a_cube_and_what_it_divides() -> None:
    found = regions(captured(Of(lambda x: square(x) - 1), 3), (-2, 2)).topology()
    assert found.faces == (26, 48, 24) and found.enclosed == 1 and found.domains == {0: 1, 1: 1}
    # Where an output stays at the level, nothing is above it.
    flat = regions(captured(Of(lambda x: (square(x) - 1).relu()), 3), (-2, 2)).topology()
    assert flat == found
    assert regions(captured(Of(lambda x: square(x) - 1), 3), (-2, 2)).topology(level=1.5).betti == (0, 0, 0)
    assert regions(captured(Of(lambda x: square(x) - 1), 4), (-2, 2)).topology().euler == 0


def test_three_classes_that_meet_in_a_corner() -> None:
    angle = 2 * torch.pi * torch.arange(3, dtype=F64) / 3
    layer = nn.Linear(2, 3, bias=False, dtype=F64)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([angle.cos(), angle.sin()], 1))
    found = regions(captured(nn.Sequential(layer), 2), (-1, 1))
    assert len(found) == 1
    shape = found.topology()
    assert shape.betti == (1, 0) and shape.faces == (4, 3) and shape.domains == {0: 1, 1: 1, 2: 1}


def test_the_boundary_against_a_plane() -> None:
    """Pieces and loops of a decision boundary, by counting on the plane partition of the same network."""
    module = mlp(2, 12, 12, 3, seed=5)
    found = regions(captured(module, 2), (-4, 4)).topology()
    plane = ma.partition.plane(captured(module, 2), extent=[-4, 4, -4, 4])
    assert sum(found.domains.values()) >= 2
    classes = torch.as_tensor(module(torch.cartesian_prod(*[torch.linspace(-4, 4, 201, dtype=F64)] * 2)).argmax(1))
    assert set(found.domains) == set(classes.unique().tolist())
    assert plane.regions == len(regions(captured(module, 2), (-4, 4)))


def test_what_is_too_large_or_unknown_is_refused() -> None:
    with pytest.raises(ma.BadInput, match="up to 8 dimensions"):
        regions(captured(mlp(9, 4, 3), 9), (-1, 1))
    small = captured(mlp(2, 12, 3), 2)
    with pytest.raises(ma.BadInput, match="max_regions"):
        regions(small, (-9, 9), max_regions=3)
    with pytest.raises(ma.BadInput, match="max_regions: expected a whole number from 1 on, got 0"):
        regions(small, (-9, 9), max_regions=0)
    found = regions(small, (-1, 1))
    with pytest.raises(ma.BadInput, match="number: regions have the numbers 0 to"):
        found.facets(len(found))
    with pytest.raises(ma.BadInput, match="level: expected a finite number"):
        found.topology(level=float("nan"))
    jumps = captured(Of(FUNCTIONS["jumps"], nn.Linear(2, 4, dtype=F64)), 2)
    with pytest.raises(ma.BadInput, match="net: it jumps"):
        regions(jumps, (-1, 1)).topology()
    with pytest.raises(ma.NotPiecewiseAffine, match="median.*convex"):
        regions(captured(Of(lambda x: x.median(1).values), 3), (-1, 1))


@pytest.mark.parametrize("bounds", [3, (1, -1), (0, float("inf")), ([0, 0, 0], 1), "ab"])
def test_bad_bounds(bounds: Any) -> None:
    with pytest.raises((ma.BadInput, ValueError)):
        regions(captured(nn.ReLU(), 2), bounds)


def test_what_a_result_says_of_itself() -> None:
    found = regions(captured(mlp(2, 5, 1), 2), (-1, 1))
    assert repr(found) == f"Regions: {len(found)} in 2 dimensions, {len(found.neighbors)} pairs of neighbors"
    said = found.to_dict()
    assert sum(said["volumes"]) == pytest.approx(4) and len(said["points"]) == len(found)
    assert not replace(found, high=found.high + 1).exact
