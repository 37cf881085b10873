"""Level sets in three dimensions: analytic shapes, crossings with exact lines, degenerate weights, broken meshes."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from benchmarks.subdivision import surface_subdivision
from maxaffine._partition.surfaces import seeds
from maxaffine._partition.surfaces import surface as surface_file
from maxaffine._partition.surfaces.mesh import Mesh
from maxaffine.errors import BadInput, NotPiecewiseAffine, PartitionError

ZERO, AXES = torch.zeros(1, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)


class Formula(nn.Module):
    """A network that is a formula of its input."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x).reshape(-1, 1)


def _ring(x: Tensor) -> Tensor:
    return torch.maximum((x[:, :2].abs().amax(1) - 1).abs(), x[:, 2].abs()) - 0.4


def _two(x: Tensor) -> Tensor:
    shift = torch.tensor([0.8, 0, 0], dtype=x.dtype)
    return torch.minimum((x - shift).abs().amax(1) - 0.5, (x + shift).abs().sum(1) - 0.5)


def _height(x: Tensor) -> Tensor:
    return x.abs().sum(1) - 1


ROOT3 = math.sqrt(3)
# Of an octahedron whose corners are 1/4 from the middle on one side of each axis and 1 on the other.
TWINS = sum(math.hypot(a * b, b * c, c * a) / 2 for a, b, c in product((0.25, 1), repeat=3))
# Formula, area, volume, Euler characteristic, components.
SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], float, float, int, int]] = {
    "box": (lambda x: x.abs().amax(1) - 1, 24, 8, 2, 1),
    "box of relus": (lambda x: (x.relu() + (-x).relu()).amax(1) - 1, 24, 8, 2, 1),
    "octahedron": (_height, 4 * ROOT3, 4 / 3, 2, 1),
    "ring": (_ring, 25.6, 5.12, 0, 1),
    "box and octahedron": (_two, 6 + ROOT3, 1 + 1 / 6, 4, 2),
    "units that are equal": (lambda x: torch.cat([x, x, -x, 2 * x], 1).relu().sum(1) - 1, TWINS, 1.25**3 / 6, 2, 1),
    # Where the level set lies on the boundary of a unit.
    "leaky output": (lambda x: nn.functional.leaky_relu(_height(x), 0.1), 4 * ROOT3, 4 / 3, 2, 1),
    "difference of relus": (lambda x: _height(x).relu() - (-_height(x)).relu(), 4 * ROOT3, 4 / 3, 2, 1),
}


def _captured(module: nn.Module, inputs: int = 3) -> ma.SplineNetwork:
    return ma.capture(module, torch.zeros(1, inputs, dtype=torch.float64))


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_are_known(name: str) -> None:
    formula, area, volume, euler, components = SHAPES[name]
    module = Formula(formula)
    found = ma.partition.surface(_captured(module), bounds=(-2, 2))
    assert found.watertight and found.complete and not len(found.rim)
    assert (found.euler, found.components) == (euler, components)
    assert found.area == pytest.approx(area, rel=1e-6) and found.volume == pytest.approx(volume, rel=1e-6)
    assert found.residual(module) < 1e-14


class Skip(nn.Module):
    """The input is read again by a later layer, as DeepSDF does."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, width), nn.Linear(width + 3, width)
        self.last, self.activation = nn.Linear(width, 1), activation

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.first(x))
        return self.last(self.activation(self.second(torch.cat([hidden, x], 1))))


class Maxout(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3 * width), nn.Linear(width, 3 * width)])
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).unflatten(1, (-1, 3)).amax(2)
        return self.last(x)


def _pooled(width: int) -> nn.Module:
    pool = [nn.Unflatten(1, (1, -1)), nn.MaxPool1d(3, 2), nn.Flatten()]
    return nn.Sequential(nn.Linear(3, 2 * width + 1), nn.ReLU(), *pool, nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)),
    "leaky": lambda: Skip(7, nn.LeakyReLU(0.2)),
    "relu6": lambda: Skip(7, nn.Hardtanh(-0.5, 0.5)),
    "maxout": lambda: Maxout(4),
    "overlapping pools": lambda: _pooled(6),
}


def _rounded(module: nn.Module, weights: str) -> nn.Module:
    """Weights as drawn, or such that many boundaries meet, or are the same."""
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.mul_(1.5)
            if weights == "halves":
                parameter.copy_((4 * parameter).round() / 2)
            if weights == "twins" and len(parameter) > 2:
                parameter[1], parameter[2] = parameter[0], -parameter[0]
    return module


def _on_mesh(found: ma.partition.Surface, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Where the segment crosses the triangles, from 0 to 1."""
    a, b, c = (found.vertices[found.triangles[:, k]] for k in range(3))
    normal, along = np.cross(b - a, c - a), end - start
    rate = normal @ along
    t = ((a - start) * normal).sum(1) / np.where(rate == 0, np.inf, rate)
    place = start + t[:, None] * along
    inside = [(np.cross(q - p, place - p) * normal).sum(1) >= 0 for p, q in ((a, b), (b, c), (c, a))]
    return np.sort(t[np.all(inside, 0) & (0 < t) & (t < 1)])


def _on_line(net: ma.SplineNetwork, start: np.ndarray, end: np.ndarray, level: float) -> np.ndarray:
    """The same from the exact pieces of the network along the segment."""
    line = ma.partition.line(net, *(torch.from_numpy(point)[None] for point in (start, end)))
    t = line.breakpoints.numpy()
    value = net(torch.from_numpy(start + t[:, None] * (end - start)))[:, 0].numpy() - level
    (k,) = np.nonzero((value[:-1] < 0) != (value[1:] < 0))
    return t[k] - value[k] * (t[k + 1] - t[k]) / (value[k + 1] - value[k])


@pytest.mark.parametrize("weights", ["drawn", "halves", "twins"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_lines_cross_it_where_they_cross_the_level(name: str, weights: str) -> None:
    torch.manual_seed(5)
    module = _rounded(NETWORKS[name]().double(), weights)
    net, random = _captured(module), np.random.default_rng(0)
    level = float(net(torch.from_numpy(random.uniform(-1, 1, (101, 3)))).median()) + 0.01
    found = ma.partition.surface(net, level, bounds=(-1, 1), lines=12)
    assert found.complete and found.residual(module) < 1e-12
    codes = net.codes(found.inputs(found.centers))
    rows = torch.cat([codes[o.name].unpack().flatten(1).long() for o in net.operators if o.pieces > 1], 1)
    assert len(torch.unique(rows, dim=0)) == len(found)  # a polygon a region
    for start, end in random.uniform(-1, 1, (25, 2, 3)):
        assert _on_mesh(found, start, end) == pytest.approx(_on_line(net, start, end, level), abs=1e-9)


@pytest.mark.parametrize("widths", [(3, 1), (3, 8, 1), (3, 10, 8, 1)])
def test_the_same_polygons_as_edge_subdivision(widths: tuple[int, ...]) -> None:
    """The published neuron-by-neuron algorithm, written independently."""
    torch.manual_seed(4)
    linear = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    module = nn.Sequential(*[item for layer in linear for item in (layer, nn.ReLU())][:-1]).double()
    with torch.no_grad():
        linear[-1].bias.sub_(module(torch.rand(99, 3).double()).median())
    found = ma.partition.surface(_captured(module), bounds=(-1, 1), lines=12)
    other, polygons = surface_subdivision(module, -np.ones(3), np.ones(3))
    assert (len(found), len(found.vertices), len(found.mesh.edges[1])) == (
        polygons,
        len(other.points),
        len(other.edges),
    )
    rounded = [{tuple(row) for row in np.round(points, 9) + 0.0} for points in (found.vertices, other.points)]
    assert rounded[0] == rounded[1]


def test_every_edge_inside_the_box_has_two_sides_and_every_polygon_its_map() -> None:
    torch.manual_seed(0)
    module = NETWORKS["relu"]().double()
    found = ma.partition.surface(_captured(module), -0.25, bounds=(-1, (1, 1.5, 2)))
    corner = np.array([1, 1.5, 2])  # every edge of one polygon alone lies in a side of the box
    rim = found.vertices[found.rim]
    lies = np.logical_or(np.abs(rim + 1) < 1e-12, np.abs(rim - corner) < 1e-12)
    assert np.any(np.all(lies, axis=1), axis=1).all()
    assert not found.watertight and math.isnan(found.volume)
    slopes = torch.as_tensor(found.affine_map().slopes)[:, 0].numpy()
    assert found.normals == pytest.approx(slopes / np.linalg.norm(slopes, axis=1, keepdims=True), abs=1e-12)
    # The corners of a polygon are flat, and turn to the left seen from where the output is larger.
    for face, normal in zip(found.faces, found.normals, strict=True):
        corners = found.vertices[face]
        assert np.ptp(corners @ normal) < 1e-12
        sides = np.roll(corners, -1, 0) - corners
        assert (np.cross(sides, np.roll(sides, -1, 0)) @ normal > 0).all()


def test_slices_of_more_dimensions_and_other_outputs() -> None:
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    torch.manual_seed(2)
    origin, basis = torch.randn(1, 5).double(), torch.randn(3, 5).double()
    net = _captured(module, 5)
    with torch.no_grad():
        level = float(module(origin)[0, 1])
    found = ma.partition.surface(net, level, 1, bounds=(-1, 1), origin=origin, basis=basis)
    points = origin + torch.from_numpy(found.vertices) @ basis
    with torch.no_grad():
        assert float((module(points)[:, 1] - level).abs().max()) < 1e-12
    assert found.residual(module) < 1e-12 and len(found) > 3


def test_integers_beside_the_three_numbers_stay_as_they_are() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Embedding.from_pretrained(torch.tensor([[0.5], [1.0]], dtype=torch.float64))

        def forward(self, x: Tensor, k: Tensor) -> Tensor:
            return x.abs().sum(1, keepdim=True).relu() - self.shift(k)

    net = ma.capture(Shifted(), (ZERO, torch.tensor([0])))
    where: dict[str, Any] = {"origin": (ZERO, torch.tensor([1])), "basis": (AXES, torch.zeros(3, dtype=torch.long))}
    found = ma.partition.surface(net, bounds=(-2, 2), **where)
    assert len(found) == 8 and found.volume == pytest.approx(4 / 3)


@pytest.mark.parametrize("name", ["relu6", "overlapping pools"])
def test_it_starts_wherever_exact_lines_cross_the_level(name: str) -> None:
    torch.manual_seed(7)
    net = _captured(_rounded(NETWORKS[name]().double(), "drawn"))
    level = float(net(torch.rand(99, 3).double()).median())
    space = surface_file._space(net, level, 0, None, (-1, 1), None, None, None)
    ends = np.random.default_rng(0).uniform(-1, 1, (20, 2, 3))
    places, _, _ = seeds._crossings(space, ends)
    wanted = [start + t * (end - start) for start, end in ends for t in _on_line(net, start, end, level)]
    assert len(wanted) > 5 and places == pytest.approx(np.array(wanted), abs=1e-12)


def test_a_component_too_small_for_the_lines_is_found_from_all_regions() -> None:
    centers = torch.tensor([[0.5, 0.5, 0.5], [-0.61, -0.43, -0.37]], dtype=torch.float64)
    sizes = torch.tensor([0.4, 0.02], dtype=torch.float64)
    net = _captured(Formula(lambda x: ((x[:, None] - centers.to(x)).abs().sum(2) - sizes.to(x)).amin(1)))
    assert ma.partition.surface(net, bounds=(-1, 1)).components == 1
    found = ma.partition.surface(net, bounds=(-1, 1), exhaustive=True)
    assert found.components == 2 and found.watertight and found.euler == 4
    assert found.volume == pytest.approx(4 / 3 * float((sizes**3).sum()))


def _both(net: ma.SplineNetwork, level: float = 0.0, bounds: Any = (-1, 1), **more: Any) -> ma.partition.Surface:
    """The surface from lines, after a look that the one from all regions is the same."""
    # So many lines that no component of these networks is missed.
    more |= {"bounds": bounds, "lines": 20}
    found, every = (ma.partition.surface(net, level, exhaustive=way, **more) for way in (False, True))
    assert found.complete and every.complete
    assert (len(every), len(every.vertices)) == (len(found), len(found.vertices))
    assert every.area == pytest.approx(found.area, rel=1e-9)
    assert np.abs(every.vertices).max() <= np.abs(bounds).max() + 1e-12
    return found


WIDTHS = [(3, 1), (3, 3, 1), (3, 8, 1), (3, 5, 4, 1)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_all_regions_give_what_lines_give_where_it_leaves_the_box(widths: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    layers = [item for a, b in zip(widths, widths[1:], strict=False) for item in (nn.Linear(a, b), nn.LeakyReLU(0.1))]
    module = nn.Sequential(*layers[:-1]).double()
    with torch.no_grad():
        level = float(module(torch.rand(500, 3).double() * 2 - 1).median())
    assert len(_both(_captured(module), level).rim)


@pytest.mark.parametrize("name", ["leaky output", "difference of relus", "box"])
def test_all_regions_where_it_lies_on_the_boundary_of_a_unit(name: str) -> None:
    assert _both(_captured(Formula(SHAPES[name][0])), bounds=(-2, 2)).area == pytest.approx(SHAPES[name][1], rel=1e-9)


def test_relus_that_were_wrong_from_all_regions() -> None:
    for seed, level, area in ((3, 0.3441282797759171, 0.887), (1, 0.5175050251986645, 3.287)):
        torch.manual_seed(seed)
        found = _both(_captured(nn.Sequential(nn.Linear(3, 1), nn.ReLU()).double()), level)
        assert found.area == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_only_touches_a_side_of_the_box_is_no_part_of_it(sign: int) -> None:
    cube = _captured(Formula(lambda x: sign * (x.abs().amax(1) - 0.5)))
    for bounds in ((-3, 0.5), (-0.5, 3)):
        assert _both(cube, bounds=bounds).area == pytest.approx(3, rel=1e-9)
    for level, exhaustive in product((1.0000003, 1.0, 1 - 1e-13, -1.0, -1.0000003), (False, True)):
        plane = _captured(Formula(lambda x: sign * x[:, 0]))
        with pytest.raises(BadInput, match="level: the output does not pass through"):
            ma.partition.surface(plane, level, bounds=(-1, 1), exhaustive=exhaustive)


@pytest.mark.parametrize("exhaustive", [False, True])
def test_a_ridge_at_the_level_is_not_crossed(exhaustive: bool) -> None:
    with pytest.raises(BadInput, match="level: the output does not pass through"):
        ma.partition.surface(_captured(Formula(lambda x: -_height(x).abs())), bounds=(-2, 2), exhaustive=exhaustive)


@pytest.mark.parametrize("far", [1e6, -3e8])
@pytest.mark.parametrize("exhaustive", [False, True])
def test_far_from_zero_it_is_the_same_surface(far: float, exhaustive: bool) -> None:
    torch.manual_seed(1)
    module, shift = Skip(8, nn.ReLU()).double(), far * torch.tensor([1.0, 0.5, 1e-3], dtype=torch.float64)
    moved = copy.deepcopy(module)
    with torch.no_grad():
        level = float(module(torch.rand(99, 3).double()).median())
        # The second layer reads the input again, so that large numbers cancel in both.
        for layer in (moved.first, moved.second):
            layer.bias.sub_(layer.weight[:, -3:] @ shift)
    home = ma.partition.surface(_captured(module), level, bounds=(0, 1), exhaustive=exhaustive)
    box = (tuple(shift.tolist()), tuple((shift + 1).tolist()))
    found = ma.partition.surface(_captured(moved), level, bounds=box, exhaustive=exhaustive)
    assert found.complete and (len(found), len(found.vertices)) == (len(home), len(home.vertices))
    assert found.area == pytest.approx(home.area, rel=1e-5)
    assert found.residual(moved) < 1e-14 * abs(far)


def test_so_far_from_zero_that_points_fall_together_is_refused() -> None:
    with pytest.raises(BadInput, match=r"bounds: so far from zero float64 tells only points 0.0001.* apart"):
        ma.partition.surface(_captured(Formula(_height)), bounds=(1e12, 1e12 + 1))


@pytest.mark.parametrize("against", [2, "others"])
def test_borders_of_classes_are_where_their_outputs_draw_level(against: int | str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 4)).double()
    net = _captured(module)
    found = ma.partition.surface(net, 0.0, 1, against=against, bounds=(-1, 1), lines=12)
    assert found.residual(module) < 1e-12 and found.to_dict()["against"] == against
    values = net(torch.from_numpy(found.centers))
    ahead = values[:, 1] - (values[:, 2] if against == 2 else values[:, [0, 2, 3]].amax(1))
    assert float(ahead.abs().max()) < 1e-12
    # It parts the box: points on a way cross it as often as the sign changes.
    random = np.random.default_rng(0)
    for start, end in random.uniform(-1, 1, (20, 2, 3)):
        crossings = _on_mesh(found, start, end)
        values = net(torch.from_numpy(np.stack([start, end])))
        sides = values[:, 1] > (values[:, 2] if against == 2 else values[:, [0, 2, 3]].amax(1))
        assert len(crossings) % 2 == int(sides[0] != sides[1])


@pytest.mark.parametrize("against", [1, 4, -1, True, "other"])
def test_bad_rivals(against: Any) -> None:
    net = _captured(nn.Linear(3, 4).double())
    with pytest.raises(BadInput, match="against: expected the number of another output or 'others'"):
        inspect.unwrap(ma.partition.surface)(net, 0.0, 1, against=against, bounds=(-1, 1))


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_borders_from_all_regions_in_which_the_largest_of_the_others_changes(seed: int) -> None:
    torch.manual_seed(seed)
    layers = [nn.Linear(3, 5), nn.LeakyReLU(0.1), nn.Linear(5, 4)] if seed else [nn.Linear(3, 4)]
    module = _rounded(nn.Sequential(*layers).double(), "halves" if seed == 3 else "drawn")
    values = module(torch.rand(500, 3).double() * 2 - 1).detach()
    level = float((values[:, 1] - values[:, [0, 2, 3]].amax(1)).median())
    assert _both(_captured(module), level, output=1, against="others").residual(module) < 1e-12


def test_a_class_too_small_for_the_lines_is_found_from_all_regions() -> None:
    place = torch.tensor([-0.61, -0.43, -0.37], dtype=torch.float64)

    class Classes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([0.02 - (x - place.to(x)).abs().sum(1), -_height(x) - 9, x[:, 0] * 0], 1)

    net, which = _captured(Classes()), {"output": 0, "against": "others", "bounds": (-1, 1)}
    with pytest.raises(BadInput, match="level: the output does not pass through 0"):
        ma.partition.surface(net, **which)
    found = ma.partition.surface(net, **which, exhaustive=True)
    assert len(found) == 8 and found.volume == pytest.approx(-4 / 3 * 0.02**3)


def test_pages_to_turn_it_on(tmp_path: Path) -> None:
    found = ma.partition.surface(_captured(Formula(_ring)), bounds=(-2, 2))
    found.save(tmp_path / "ring.html")
    page = (tmp_path / "ring.html").read_text(encoding="utf-8")
    assert repr(found) in page and f"volume {abs(found.volume):.6g}" in page and page.count("<canvas") == 1
    assert found._repr_html_().startswith("<iframe srcdoc=")


def test_what_stops_the_walk_is_said() -> None:
    net = _captured(Formula(_ring))
    with pytest.warns(UserWarning, match="max_faces ended the walk: the surface of .* unfinished"):
        found = ma.partition.surface(net, bounds=(-2, 2), max_faces=10)
    assert not found.complete and not found.watertight and "unfinished" in repr(found)
    with pytest.warns(UserWarning, match="time_limit ended"):
        ma.partition.surface(net, bounds=(-2, 2), time_limit=1e-9)


def _mesh(found: ma.partition.Surface) -> dict[str, Any]:
    return {name: getattr(found.mesh, name) for name in ("vertices", "corners", "starts", "sides", "normals")}


def test_a_broken_mesh_is_not_watertight() -> None:
    found = ma.partition.surface(_captured(Formula(_height)), bounds=(-2, 2))
    arrays = _mesh(found)
    hole = Mesh(
        **arrays | {"corners": arrays["corners"][3:], "starts": arrays["starts"][:-1], "sides": arrays["sides"][3:]}
    )
    with pytest.raises(PartitionError, match="3 edges of the level set belong to one polygon alone"):
        hole.check()
    turned = np.concatenate([arrays["corners"][2::-1], arrays["corners"][3:]])
    for mesh in (hole, Mesh(**arrays | {"corners": turned})):
        assert found.watertight and not replace(found, mesh=mesh).watertight


def test_a_mesh_out_of_the_box_or_with_thin_polygons_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net, join = _captured(Formula(_height)), surface_file.join
    thin = {"corners": np.array([0, 1]), "starts": np.array([0, 2]), "sides": np.array([True, True])}
    for change, message in (
        (lambda mesh: replace(mesh, vertices=3 * mesh.vertices), "out of the box"),
        (lambda mesh: replace(mesh, **thin), "fewer than three corners"),
    ):
        monkeypatch.setattr(surface_file, "join", lambda parts, change=change: change(join(parts)))
        with pytest.raises(PartitionError, match=message):
            ma.partition.surface(net, bounds=(-2, 2))


def test_files_hold_all_of_it(tmp_path: Path) -> None:
    found = ma.partition.surface(_captured(Formula(_ring)), bounds=(-2, 2))
    found.save(tmp_path / "ring.obj")
    lines = [line.split() for line in (tmp_path / "ring.obj").read_text().splitlines()]
    assert np.array_equal([[float(x) for x in row] for kind, *row in lines if kind == "v"], found.vertices)
    faces = [[int(x) - 1 for x in row] for kind, *row in lines if kind == "f"]
    assert faces == [face.tolist() for face in found.faces]
    found.save(tmp_path / "ring.ply")
    head, body = (tmp_path / "ring.ply").read_bytes().split(b"end_header\n")
    assert f"element vertex {len(found.vertices)}" in head.decode() and f"element face {len(found)}" in head.decode()
    split = found.vertices.nbytes
    assert np.array_equal(np.frombuffer(body[:split], "<f8").reshape(-1, 3), found.vertices)
    numbers = [len(faces[0]), *faces[0]]
    assert np.frombuffer(body[split:], "<i4")[: len(numbers)].tolist() == numbers
    with pytest.raises(BadInput, match=r"path: expected a name that ends in \.ply, \.obj, \.html"):
        found.save(tmp_path / "ring.stl")


def test_pictures_arrays_and_figures() -> None:
    found = ma.partition.surface(_captured(Formula(_ring)), bounds=(-2, 2))
    assert len(found.plot(color="tab:blue").collections) == 1
    arrays, figures = found.to_numpy(), found.to_dict()
    assert len(arrays["triangles"]) == len(arrays["corners"]) - 2 * len(found) and arrays["areas"].sum() == found.area
    assert figures["faces"] == len(found) and figures["euler"] == 0 and figures["watertight"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"level": 9.0}, "level: the output does not pass through 9"),
    ({"level": math.nan}, "level: expected a finite number"),
    ({"level": "a"}, "level: expected a finite number, got 'a'"),
    ({"bounds": (-1e300, 1e300)}, "bounds: beyond 1e.70 areas overflow"),
    ({"lines": 2.5}, "lines: expected a whole number from 1"),
    ({"max_faces": 0}, "max_faces: expected a whole number above 0"),
    ({"time_limit": 0.0}, "time_limit: expected seconds above 0"),
    ({"time_limit": -3.0}, "time_limit: expected seconds above 0"),
    ({"output": 1}, "output: numbers run from 0 to 0"),
    ({"bounds": (-math.inf, 1)}, "bounds: every lower bound must be finite"),
    ({"bounds": (1, -1)}, "bounds: every lower bound"),
    ({"lines": 0}, "lines: expected a whole number from 1"),
    ({"origin": ZERO}, "basis: give origin and basis together"),
    ({"origin": ZERO, "basis": torch.ones_like(AXES)}, "basis: the three directions lie in a plane"),
    ({"origin": ZERO, "basis": AXES, "exhaustive": True}, "exhaustive: it lists regions"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        whole: dict[str, Any] = {"bounds": (-2, 2)} | arguments
        inspect.unwrap(ma.partition.surface)(_captured(Formula(_height)), **whole)  # types that tests check before


def test_networks_that_have_no_such_surface() -> None:
    with pytest.raises(BadInput, match=r"origin: the network takes inputs of shape \(4,\)"):
        ma.partition.surface(_captured(nn.Linear(4, 1).double(), 4), bounds=(-1, 1))
    flat = _captured(Formula(lambda x: (_height(x) - 0.5).relu() - (-_height(x)).relu()))
    with pytest.raises(BadInput, match="level: the output has it all over a region near"):
        ma.partition.surface(flat, bounds=(-2, 2))
    nearly = _captured(Formula(lambda x: (_height(3 * x) + 0.2).clamp(max=0.2)))  # at any place that is drawn
    with pytest.raises(BadInput, match="level: the output has it all over a region near"):
        ma.partition.surface(nearly, 0.2, bounds=(-2, 2), exhaustive=True)
    with pytest.raises(NotPiecewiseAffine, match="jumps"):
        ma.partition.surface(_captured(Formula(lambda x: nn.functional.hardshrink(x).sum(1))), bounds=(-2, 2))
    smooth = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1))
    net = ma.capture(smooth, torch.zeros(1, 3), smooth="frozen")
    with pytest.raises(NotPiecewiseAffine, match="it is smooth"):
        ma.partition.surface(net, bounds=(-1, 1))
