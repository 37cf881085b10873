"""Every result draws itself, on axes that are given or on its own, and what is drawn is what it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import maxaffine as ma
from maxaffine import _partition as partition
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
