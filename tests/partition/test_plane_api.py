"""What a plane partition offers: locating, maps, codes, boundaries, exports, interruptions, errors."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._partition import PlanePartition
from maxaffine._partition.planes.complex import cells as parts
from tests.partition.planes import linear, mlp, plane_of


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    return mlp(2, 10, 10, 3, seed=5)


@pytest.fixture(scope="module")
def found(network: nn.Sequential) -> PlanePartition:
    return plane_of(network)


def _points(count: int) -> torch.Tensor:
    return torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_locate_far_away(found: PlanePartition) -> None:
    far = torch.tensor([[1e300, 0.0], [-1e9, 3.0], [0.0, -1e18]], dtype=torch.float64)
    assert found.locate(far).tolist() == [-1, -1, -1]


def test_locate(found: PlanePartition) -> None:
    t = _points(300)
    cell = found.locate(t)
    for point, number in zip(t[:40], cell[:40].tolist(), strict=True):
        corners = found.corners(number)
        along = corners.roll(-1, 0) - corners
        away = along[:, 0] * (point - corners)[:, 1] - along[:, 1] * (point - corners)[:, 0]
        assert (away > -1e-12).all()
    assert torch.equal(found.locate(found.centers), torch.arange(found.regions))
    assert found.locate(torch.tensor([[1.5, 0.0], [0.0, -2.0]])).tolist() == [-1, -1]


def test_maps_are_the_network(found: PlanePartition, network: nn.Sequential) -> None:
    t = _points(200)
    cell = found.locate(t)
    slopes, offsets = found.plane_map(cell)
    expected = network(t).detach()
    torch.testing.assert_close((slopes * t[:, None]).sum(2) + offsets, expected)
    amap = found.affine_map(cell)
    torch.testing.assert_close(amap(found.points(t)), expected)
    torch.testing.assert_close(found.values, network(found.vertices).detach())
    torch.testing.assert_close(found.at(t), expected)


def test_slope_norms_are_those_of_the_maps(found: PlanePartition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[type(found).__module__], "SLOPES_AT_ONCE", 7)
    fresh = dataclasses.replace(found)
    assert fresh.slope_norms.shape == (found.regions,)
    torch.testing.assert_close(fresh.slope_norms, found.plane_map()[0].flatten(1).norm(dim=1))
    assert fresh.slope_norms is fresh.slope_norms


def test_codes_are_the_networks(found: PlanePartition, network: nn.Sequential) -> None:
    net = ma.capture(network, _points(2))
    t = _points(200)
    assert found.codes(found.locate(t)) == net.codes(t)
    assert found.codes(slice(0, 3)).batch == 3


def test_neighbors_differ_in_the_unit_of_their_edge(found: PlanePartition) -> None:
    codes = found.codes()
    inner = torch.nonzero(found.edge_operators >= 0).flatten()
    for edge in inner[::7].tolist():
        left, right = found.edge_cells[edge].tolist()
        operator, unit = int(found.edge_operators[edge]), int(found.edge_units[edge])
        rows = codes[found.operators[operator]].unpack()[[left, right]].flatten(1)
        assert rows[0, unit] != rows[1, unit]


def test_classes_and_decision_boundary(found: PlanePartition, network: nn.Sequential) -> None:
    by_class = found.divided_by_class()
    assert by_class.decided.all()
    t = _points(500)
    assert torch.equal(by_class.classes[by_class.locate(t)], network(t).argmax(1))
    boundary = found.decision_boundary()
    assert len(boundary) > 0
    values = network(boundary.points.mean(1)).detach().sort(1, descending=True).values
    torch.testing.assert_close(values[:, 0], values[:, 1])
    assert (boundary.classes[:, 0] != boundary.classes[:, 1]).all()
    assert torch.equal(found.locate(boundary.points.mean(1)), boundary.cells)
    undecided = torch.nonzero(~found.decided).flatten().tolist()
    assert set(boundary.cells.tolist()) == set(undecided)


def test_level_set(found: PlanePartition, network: nn.Sequential) -> None:
    level = float(found.at(torch.zeros(1, 2))[0, 1])
    lines = found.level_set(level, output=1)
    values = network(lines.points.flatten(0, 1)).detach()[:, 1]
    torch.testing.assert_close(values, torch.full_like(values, level))
    assert lines.length > 0
    assert len(found.level_set(1e9)) == 0


def test_several_level_sets_and_the_cells_between_them(found: PlanePartition, network: nn.Sequential) -> None:
    levels = [-0.1, 0.0, 0.05]
    bands = found.divided_by_levels(levels, output=1)
    values = network(bands.vertices).detach()[:, 1]
    torch.testing.assert_close(bands.values[:, 1], values)
    torch.testing.assert_close(bands.values, network(bands.vertices).detach())
    torch.testing.assert_close(bands.areas.sum(), found.areas.sum())
    for level, lines in zip(levels, found.level_sets(levels, output=1), strict=True):
        alone = found.level_set(level, output=1)
        assert len(lines) == len(alone) and lines.length == pytest.approx(alone.length)
        above = values[torch.from_numpy(bands.cells.corners)] > level + 1e-9
        below = values[torch.from_numpy(bands.cells.corners)] < level - 1e-9
        for start, end in zip(bands.cells.starts[:-1], bands.cells.starts[1:], strict=True):
            assert not (above[start:end].any() and below[start:end].any())


def test_cells_of_values_are_exported_with_their_values(network: nn.Sequential) -> None:
    values = plane_of(network, task="values")
    features = values.to_geojson()["features"]
    at = network(values.centers).detach()
    for feature, own in zip(features, at.tolist(), strict=True):
        assert feature["properties"]["values"] == pytest.approx(own) and "class" not in feature["properties"]
    nodes = values.to_networkx().nodes
    assert "class" not in nodes[0] and nodes[0]["values"] == pytest.approx(at[0].tolist())


def test_boundary_of_a_single_output() -> None:
    boundary = plane_of(linear([[1.0, 1.0]], [0.0]), task="classes").decision_boundary()
    assert boundary.length == pytest.approx(2 * math.sqrt(2))
    assert boundary.classes.tolist() in ([[0, 1]], [[1, 0]])


def test_boundaries_along_edges_of_the_partition() -> None:
    """The sign of relu(x) - relu(-x) changes on an edge, |x| has its zeros there, and relu(x) is flat beside it."""
    relus = nn.Sequential(linear([[1.0, 0.0], [-1.0, 0.0]]), nn.ReLU())
    sign, size = (plane_of(nn.Sequential(relus, linear([[1.0, f]])), task="classes") for f in (-1.0, 1.0))
    for lines in (sign.decision_boundary(), sign.level_set(), size.level_set(), plane_of(relus).level_set(0.0, 1)):
        assert lines.length == pytest.approx(2.0)
        assert not lines.points[..., 0].any()
    assert sign.decision_boundary().classes.tolist() in ([[0, 1]], [[1, 0]])
    assert size.level_set().classes.tolist() == [[1, 1]]
    assert len(size.decision_boundary()) == 0
    two = plane_of(relus)  # of two outputs: the first is larger on the right, the second on the left
    assert sorted(two.classes.tolist()) == [0, 1] and two.decided.all()
    assert two.decision_boundary().length == pytest.approx(2.0)
    assert len(plane_of(linear([[0.0, 0.0]])).level_set()) == 0  # zero all over, and no edge within


def test_the_lowest_class_wins_ties_whatever_rounding_says() -> None:
    rows = torch.tensor([[0.1, 0.7], [1 / 3, -0.2], [0.6, 0.5]], dtype=torch.float64)
    first = nn.Sequential(linear(rows, [0.05, 0.02, -0.1]), nn.ReLU())
    second = linear([[1 / 3, 0.7, 0.1], [1 / 3 + 0.4, 1.1, 0.5]])

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            z = self.second(y)
            return torch.stack([z[:, 0], z[:, 1] - 0.4 * y.sum(1), -1 - y.sum(1)], 1)

    found = plane_of(Tied())
    assert not found.classes.any() and found.decided.all()
    assert len(found.decision_boundary()) == 0


def test_anchors_span_an_isometric_plane() -> None:
    net = ma.capture(mlp(5, 8, 2).double(), torch.zeros(2, 5, dtype=torch.float64))
    x = torch.randn(3, 5, dtype=torch.float64)
    found = ma.partition.plane(net, x)
    anchors = found.frame.anchors
    assert anchors is not None
    torch.testing.assert_close(found.points(anchors), x)
    torch.testing.assert_close(torch.cdist(anchors, anchors), torch.cdist(x, x))
    torch.testing.assert_close(found.frame.coordinates(x), anchors)
    assert (found.locate(anchors) >= 0).all()
    listed = ma.partition.plane(net, [row for row in x])
    assert listed.regions == found.regions


def test_inputs_come_one_by_one_or_as_a_batch() -> None:
    net = ma.capture(mlp(3, 5, 2), torch.zeros(1, 3, dtype=torch.float64))
    x = torch.randn(3, 3, dtype=torch.float64)
    batches = tuple(x.split(1))
    planes = [ma.partition.plane(net, given) for given in (x, tuple(x), list(x), batches)]
    planes += [
        ma.partition.plane(net, origin=start, basis=pair, extent=planes[0].cells.points[[0, 1, 2]])
        for start, pair in ((x[:1], x[1:]), (x[0], tuple(x[1:])), (batches[0], list(batches[1:])))
    ]
    t = torch.randn(4, 2, dtype=torch.float64)
    for same in (planes[:4], planes[4:]):
        for plane in same[1:]:
            assert plane.regions == same[0].regions
            torch.testing.assert_close(plane.frame.points(t), same[0].frame.points(t))
    with pytest.raises(ma.ShapeMismatch, match="basis: inputs of different shapes"):
        ma.partition.plane(net, origin=x[0], basis=(x[1], x[1:]))


def test_exports(found: PlanePartition) -> None:
    arrays = found.to_numpy()
    assert arrays["vertices"].shape == (len(found.vertices), 2)
    assert arrays["cell_corners"].shape == arrays["cell_edges"].shape
    inner = arrays["edge_operators"] >= 0
    assert (np.bincount(arrays["cell_edges"]) == np.where(inner, 2, 1)).all()
    geo = json.loads(json.dumps(found.to_geojson()))
    assert len(geo["features"]) == found.regions
    ring = geo["features"][3]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    assert geo["features"][3]["properties"]["area"] == pytest.approx(float(found.areas[3]))
    graph = found.to_networkx()
    assert graph.number_of_nodes() == found.regions and graph.number_of_edges() == len(found.adjacency)
    assert networkx.is_connected(graph)


def test_reprs(found: PlanePartition) -> None:
    assert f"regions: {found.regions}" in repr(found)
    assert "<table>" in found._repr_html_()


def test_values_that_were_not_kept(found: PlanePartition, network: nn.Sequential) -> None:
    bare = plane_of(network, keep_values=False)
    assert bare.kept_values is None
    torch.testing.assert_close(bare.values, network(bare.vertices).detach())
    assert bare.regions == found.regions


def test_interruption_keeps_what_is_done(network: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    from maxaffine._partition.planes import blocks

    count = 0
    divide = blocks.divide

    def interrupted(*arguments):
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return divide(*arguments)

    monkeypatch.setattr(blocks, "divide", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        found = plane_of(mlp(2, 40, 40, 3), memory=2**16)
    assert not found.complete and "interrupted" in repr(found)
    assert float(found.areas.sum()) == pytest.approx(4)
    assert set(found.levels.tolist()) > {2} or 2 in found.levels


def test_a_function_follows_the_work_and_can_end_it() -> None:
    network, seen = mlp(2, 40, 40, 3), []
    found = plane_of(network, memory=2**16, progress=lambda share, cells: seen.append((share, cells)))
    shares, cells = zip(*seen, strict=True)
    assert len(seen) > 3 and shares[0] == 0 and 0.5 < shares[-1] <= 1
    assert list(shares) == sorted(shares) and list(cells) == sorted(cells)
    assert cells[0] == 1 and cells[-1] <= found.regions

    def stop(share: float, count: int) -> None:
        if count > cells[-1] // 2:
            raise ArithmeticError(f"{count} cells are enough")

    with pytest.raises(ArithmeticError, match="cells are enough"):
        plane_of(network, memory=2**16, progress=stop)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"anchors": torch.zeros(2, 2)}, "three inputs"),
    ({"anchors": torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])}, "on a line"),
    ({"anchors": torch.zeros(3, 3)}, "shape"),
    ({"basis": torch.eye(2)}, "anchors: give either"),
    ({"origin": torch.zeros(1, 2)}, "anchors: give either"),
    ({"origin": torch.zeros(1, 2), "basis": torch.ones(2, 2)}, "parallel"),
    ({"origin": torch.zeros(2, 2), "basis": torch.eye(2)}, "batch of 1"),
    ({"extent": [1.0, 0.0, 0.0, 1.0]}, "span an area"),
    ({"extent": [0.0, 1e-300, 0.0, 1e-300]}, "neither 0 nor infinite"),
    ({"extent": 1e200}, "neither 0 nor infinite"),
    ({"extent": [[0.0, 0.0], [1.0, 0.0], [0.2, 0.2], [0.0, 1.0]]}, "convex"),
    ({"extent": "wide"}, "numbers"),
    ({"extent": math.nan}, "NaN"),
    ({"tolerance": 0.1}, "tolerance"),
    ({"memory": 10}, "memory"),
    ({"until": "nowhere"}, "nowhere"),
]


@pytest.mark.parametrize(("options", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input(network: nn.Sequential, options: dict, words: str) -> None:
    net = ma.capture(mlp(2, 4, 1).float(), torch.zeros(2, 2))
    given: dict[str, Any] = {}
    if set(options) & {"extent", "tolerance", "memory", "until"}:
        given = {"origin": torch.zeros(1, 2), "basis": torch.eye(2)}
    with pytest.raises(ma.BadInput, match=words):
        ma.partition.plane(net, **(given | options))


def test_bad_cells(found: PlanePartition) -> None:
    for cells in ([found.regions], [-1], [], torch.tensor([0.5])):
        with pytest.raises(ma.BadInput, match="cells"):
            found.codes(cells)
    with pytest.raises(ma.BadInput, match="coordinates"):
        found.locate(torch.zeros(3))
    with pytest.raises(ma.BadInput, match="output"):
        found.level_set(0.0, output=3)


def test_warnings_stay_away(network: nn.Sequential) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plane_of(network).regions > 1
    assert parts.OUTSIDE == -1


class TwoNumbers(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(x - y) + nn.functional.relu(x)


@pytest.mark.parametrize("stream", [False, True])
def test_a_network_of_two_numbers_has_one_plane(stream: bool, network: nn.Sequential, tmp_path: Path) -> None:
    """Coordinates are its inputs, given together or apart."""
    net = ma.capture(network, _points(2))
    asked: dict[str, Any] = {
        "origin": torch.zeros(1, 2, dtype=torch.float64),
        "basis": torch.eye(2, dtype=torch.float64),
    }
    if stream:
        found = ma.partition.stream_plane(net, tmp_path / "a", extent=1.0)
        assert found.regions == ma.partition.stream_plane(net, tmp_path / "b", extent=1.0, **asked).regions
        return
    found, same = ma.partition.plane(net, extent=1.0), ma.partition.plane(net, **asked)
    assert torch.equal(found.vertices, same.vertices) and found.regions == same.regions
    torch.testing.assert_close(found.at(_points(20) / 9), network(_points(20) / 9).detach())
    apart = ma.capture(TwoNumbers().double(), (torch.ones(2, 1, dtype=torch.float64),) * 2)
    assert ma.partition.plane(apart).regions == 4


def test_other_networks_have_many_planes() -> None:
    net = ma.capture(nn.ReLU(), torch.zeros(1, 3))
    with pytest.raises(
        ma.BadInput, match=r"inputs of shape \(3,\), in which there are many planes; give three anchors"
    ):
        ma.partition.plane(net, extent=1.0)
    with pytest.raises(ma.BadInput, match="either three anchors, or origin and basis"):
        ma.partition.plane(net, origin=torch.zeros(1, 3))
