"""Every result draws itself, on axes that are given or on its own, and what is drawn is what it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from torch import nn

import maxaffine as ma
from maxaffine import _partition as partition
from maxaffine._partition.planes.drawing import Style, draw_norms
from tests.partition.planes import mlp, plane_of

ZERO, AXES = torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
ENDS = torch.tensor([[-1.0, -0.8]], dtype=torch.float64), torch.tensor([[0.9, 1.0]], dtype=torch.float64)
NETWORK = mlp(2, 8, 8, 3)
NET = ma.capture(NETWORK, torch.zeros(2, 2, dtype=torch.float64))


def _history() -> partition.ComplexityHistory:
    history = partition.ComplexityHistory(NETWORK, {"data": torch.cat(ENDS)}, 0.3, directions=2)
    for epoch in (0, 1):
        history(epoch)
    return history


RESULTS: dict[str, Callable[[], Any]] = {
    "plane": lambda: partition.plane(NET, origin=ZERO, basis=AXES),
    "line": lambda: partition.line(NET, *ENDS),
    "gradients": lambda: partition.integrated_gradients(NET, ENDS[1], ENDS[0]),
    "complexity": lambda: partition.local_complexity(NET, torch.cat(ENDS), 0.3, directions=2),
    "crossed": lambda: partition.crossed_regions(NET, *ENDS),
    "history": _history,
    "region": lambda: partition.region(NET, ENDS[0]),
    "regions": lambda: partition.regions(NET, (-1, 1)),
}


@pytest.mark.parametrize("name", RESULTS)
def test_axes_given_or_new(name: str, tmp_path: Path) -> None:
    result = RESULTS[name]()
    own = result.plot()
    assert isinstance(own, Axes)
    assert isinstance(own.figure, Figure)
    own.figure.savefig(tmp_path / "own.png")
    given = Figure().subplots()
    assert result.plot(given) is given
    assert given.has_data() and [len(given.lines), len(given.patches)] == [len(own.lines), len(own.patches)]


@pytest.mark.parametrize("name", RESULTS)
def test_new_figures_have_the_size_that_is_asked_for(name: str) -> None:
    result = RESULTS[name]()
    width, height = result.plot(size=2.5).figure.get_size_inches()
    assert width == 2.5 and 0 < height <= 2.5
    for size in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ma.BadInput, match="size: .* is not a width in inches"):
            result.plot(size=size)


@pytest.mark.parametrize("name", ["line", "history", "region", "regions"])
def test_lines_are_as_wide_as_is_asked_for(name: str) -> None:
    drawn = RESULTS[name]().plot(linewidth=2.25)
    widths = {item.get_linewidth() for item in (*drawn.lines, *drawn.patches)}
    assert 2.25 in widths and not {0.5, 1.2} & widths


@pytest.mark.parametrize("name", ["line", "regions"])
def test_color_maps_are_those_that_are_asked_for(name: str) -> None:
    result = RESULTS[name]()
    drawn = result.plot(cmap="magma")
    parts = drawn.patches if name == "regions" else drawn.lines[:-1]
    shown = [part.get_facecolor() if name == "regions" else part.get_color() for part in parts]
    expected = colormaps["magma"](np.linspace(0, 1, len(parts)))
    np.testing.assert_allclose([color[:3] for color in shown], expected[:, :3])
    with pytest.raises(ma.BadInput, match="cmap: 'no such' is not a color map"):
        result.plot(cmap="no such")


def test_a_few_large_attributions_do_not_take_all_colors() -> None:
    torch.manual_seed(0)
    net = ma.capture(
        nn.Sequential(nn.Flatten(), nn.Linear(400, 2), nn.ReLU()).double(), torch.zeros(1, 20, 20).double()
    )
    x = torch.rand(1, 20, 20, dtype=torch.float64)
    x[0, 3, 4] = 1e6
    found = partition.integrated_gradients(net, x)
    clipped, whole = (found.plot(share=share).images[0].get_array() for share in (0.995, 1.0))
    # All but the largest one are white where the colors end there.
    assert (np.asarray(whole) > 240).all(-1).sum() == 399 and (np.asarray(clipped) > 240).all(-1).sum() < 200
    with pytest.raises(ma.BadInput, match="share: 0.0 is not in"):
        found.plot(share=0.0)


def test_a_new_figure_has_the_shape_of_the_plane() -> None:
    for extent, size in (
        ((0.0, 4.0, 0.0, 2.0), (4.0, 2.0)),
        ((0.0, 1.0, 0.0, 2.0), (2.0, 4.0)),
        ((0, 9, 0, 1), (4, 1.6)),
    ):
        plane = partition.plane(NET, origin=ZERO, basis=AXES, extent=extent)
        figure: Any = plane.plot(size=4.0).figure
        assert figure.get_size_inches() == pytest.approx(size)


def test_a_line_is_drawn_through_the_ends_of_its_pieces() -> None:
    found = partition.line(NET, *ENDS)
    curves = found.plot(outputs=[2, 0]).lines
    for curve, output in zip(curves, (2, 0), strict=False):
        t, values = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
        assert len(t) == 2 * found.pieces
        inputs = torch.lerp(*ENDS, torch.tensor(t)[:, None])
        np.testing.assert_allclose(values, NETWORK(inputs)[:, output].detach(), atol=1e-12)
    with pytest.raises(ma.BadInput, match="outputs: numbers run from 0 to 2"):
        found.plot(outputs=[3])


def test_regions_are_drawn_as_polygons_that_fill_the_box() -> None:
    found = partition.regions(NET, (-1, 1))
    areas = [_area(np.asarray(patch.get_path().vertices)) for patch in found.plot().patches]
    np.testing.assert_allclose(areas, found.volumes, atol=1e-12)
    inside = partition.region(NET, found.points[:1], bounds=(-1, 1))
    (patch,) = inside.plot(radius=3.0).patches
    assert _area(np.asarray(patch.get_path().vertices)) == pytest.approx(float(found.volumes[0]))


def _area(path: np.ndarray) -> float:
    x, y = path[:-1].T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


@pytest.mark.parametrize("bound", [np.inf, 1e-30])
def test_integrated_gradients_say_whether_they_are_exact(bound: float) -> None:
    found = partition.integrated_gradients(NET, ENDS[1], ENDS[0])
    assert found.exact and found.completeness <= found.bound < 1e-10
    assert type(found)(found.attributions, found.difference, 1e-20, bound, found.pieces).exact == (bound > 1)
    with pytest.raises(ma.BadInput, match="3 outputs"):
        found.plot(output=3)


def test_colors_of_a_plane_and_dimensions_that_are_refused() -> None:
    plane = plane_of(mlp(2, 6, 1))
    assert plane.coloring == "value" and plane.plot(coloring="depth").get_title() == "operator that cut the cell last"
    with pytest.raises(ma.BadInput, match="coloring: expected one of class, value, norm, depth"):
        plane.plot(coloring="size")
    cube = ma.capture(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.zeros(1, 3))
    for result in (partition.region(cube, torch.ones(1, 3)), partition.regions(cube, (-1, 1))):
        with pytest.raises(ma.BadInput, match="plot: 3 dimensions, not 2"):
            result.plot()


def test_every_cell_is_drawn_in_its_color_and_every_edge_once() -> None:
    plane = plane_of(mlp(2, 12, 12, 3))
    pyplot.close("all")
    ax = plane.plot(coloring="depth", linewidth=0.8, cmap="magma", boundary=False, anchors=False, size=3.0)
    hard, smooth, edges = _collections(ax)
    for fill in (hard, smooth):
        drawn = {
            tuple(color): path for color, path in zip(fill.get_facecolor().tolist(), fill.get_paths(), strict=True)
        }
        palette = colormaps["magma"](np.linspace(0, 1, len(plane.operators) + 1))
        for depth in plane.depths.unique().tolist():
            rings = drawn[tuple(palette[depth + 1].tolist())].to_polygons()
            expected = plane.areas[plane.depths == depth]
            np.testing.assert_allclose(sorted(map(_area, rings)), expected.sort().values, atol=1e-12)
    strokes = np.concatenate([path.vertices for path in edges.get_paths()]).reshape(-1, 2, 2)
    assert len(strokes) == int((plane.cells.operator >= 0).sum()) and edges.get_linewidth() == [0.8]
    assert pyplot.gcf().get_size_inches().tolist() == [3, 3]


def test_a_plane_of_many_cells_becomes_pixels_in_a_vector_file(tmp_path: Path) -> None:
    plane = plane_of(mlp(2, 32, 32, 32, 3), extent=4.0)
    sizes = {}
    for rasterized in (None, False):
        figure = Figure()
        axes = plane.plot(figure.subplots(), rasterized=rasterized)
        figure.savefig(tmp_path / "plane.svg")
        assert all(bool(item.get_rasterized()) == (rasterized is None) for item in _collections(axes)[:3])
        sizes[rasterized] = (tmp_path / "plane.svg").stat().st_size
    assert plane.regions > 3000 and sizes[None] < 1e6 < sizes[False]


def test_an_outlier_leaves_the_colors_of_the_other_cells() -> None:
    plane = plane_of(mlp(2, 12, 12, 3))
    norms = np.linspace(1, 2, plane.regions)
    norms[plane.areas.argmin()] = 1e9
    axes = [Figure().subplots() for _ in range(2)]
    for ax, values in zip(axes, (norms, norms.clip(max=2)), strict=True):
        draw_norms(ax, plane.cells, values, Style())
    colors = [{tuple(color) for color in _collections(ax)[0].get_facecolor().tolist()} for ax in axes]
    assert len(colors[0]) > plane.regions / 4 and len(colors[0] ^ colors[1]) <= 2


def _collections(ax: Axes) -> list[Any]:
    return [item for item in ax.collections if isinstance(item, PathCollection)]
