"""One picture of a plane: cells in the colors of what is asked, their edges, the decision boundary, the anchors.

Cells are drawn as the polygons that they are, not as pixels: what the picture shows is exact at any zoom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from maxaffine._drawing import CLASSES, input_pixels
from maxaffine._partition.planes.boundary import Segments
from maxaffine._partition.planes.complex import Complex
from maxaffine._partition.planes.contours import Contours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIGHTER = 0.35
# Edges are hairlines where there are many of them.
THICK, THIN, MANY = 0.45, 0.12, 3000
THUMBNAIL = 0.55  # inches of an anchor's picture
BOUNDARY = "#111111"


def draw_classes(ax: Axes, cells: Complex, classes: np.ndarray, called: Callable[[int], str]) -> None:
    """Cells that have one class each in the colors of these; every class is named in its middle."""
    present = np.unique(classes)
    colors = np.array([_rgb(CLASSES[number % len(CLASSES)]) for number in range(int(present.max()) + 1)])
    _fill(ax, cells, (1 - LIGHTER) * colors[classes] + LIGHTER)
    areas = cells.areas
    for number in present.tolist():
        of = np.flatnonzero(classes == number)
        if areas[of].sum() < 0.004 * areas.sum():
            continue
        # The middle of all its cells may lie in another class: its name stands in the cell that is nearest to it.
        centers = cells.centers[of]
        middle = (centers * areas[of, None]).sum(0) / areas[of].sum()
        x, y = centers[np.hypot(*(centers - middle).T).argmin()].tolist()
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        ax.text(x, y, called(number), ha="center", va="center", fontsize=8, bbox=box, parse_math=False, zorder=3)


def draw_bands(ax: Axes, cells: Complex, found: Contours) -> None:
    """Bands of one output between its level sets."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    count = len(found.colors)
    filled = _fill(ax, cells, None)
    filled.set_array(found.numbers)
    filled.set_cmap(ListedColormap(found.colors))
    filled.set_norm(BoundaryNorm(np.arange(count + 1) - 0.5, count))
    bar = ax.figure.colorbar(filled, ax=ax, shrink=0.75)
    ends = [found.low, *found.levels, found.high] if count > 1 else [found.low]
    places = [number - 0.5 if count > 1 else 0.0 for number in range(len(ends))]
    bar.set_ticks(places, labels=[f"{value:.4g}".replace("-", "−") for value in ends])
    bar.ax.tick_params(labelsize=7)


def draw_norms(ax: Axes, cells: Complex, norms: np.ndarray) -> None:
    """Cells by a number each."""
    filled = _fill(ax, cells, None)
    filled.set_array(norms)
    filled.set_cmap("viridis")
    ax.figure.colorbar(filled, ax=ax, shrink=0.75).ax.tick_params(labelsize=7)


def draw_depths(ax: Axes, cells: Complex, depths: np.ndarray, operators: Sequence[str]) -> None:
    """Cells by the operator that cut them last; -1 for none."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm

    count = len(operators) + 1
    filled = _fill(ax, cells, None)
    filled.set_array(depths + 1)
    filled.set_cmap(colormaps["cividis"].resampled(count))
    filled.set_norm(BoundaryNorm(np.arange(count + 1) - 0.5, count))
    bar = ax.figure.colorbar(filled, ax=ax, shrink=0.75)
    shown = np.unique(np.linspace(0, count - 1, min(count, 12)).round().astype(int))
    bar.set_ticks(shown.tolist(), labels=[("none", *operators)[place] for place in shown])
    bar.ax.tick_params(labelsize=6)


def draw_edges(ax: Axes, cells: Complex, color: str) -> None:
    """The boundaries of all operators, and the frame around them."""
    from matplotlib.collections import LineCollection

    lines = cells.points[cells.ends[cells.operator >= 0]]
    width = THICK if len(cells.counts) < MANY else THIN
    ax.add_collection(LineCollection(list(lines), colors=color, linewidths=width))
    low, high = cells.points.min(0), cells.points.max(0)
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_aspect("equal")
    ax.tick_params(labelsize=7)


def draw_levels(ax: Axes, found: Contours, surface: bool) -> None:
    """The level sets; that of 0, the surface of a field of one value, in bold."""
    for level, segments in zip(found.levels, found.lines, strict=True):
        draw_segments(ax, segments, 1.8 if surface and level == 0 else 0.7)


def draw_segments(ax: Axes, segments: Segments, width: float) -> None:
    """A decision boundary, or a level set."""
    from matplotlib.collections import LineCollection

    drawn = LineCollection(list(segments.points.numpy()), colors=BOUNDARY, linewidths=width, capstyle="round")
    ax.add_collection(drawn)


def draw_anchors(ax: Axes, anchors: Tensor, shown: Sequence[int], pictures: Sequence[np.ndarray]) -> None:
    """Mark some of the inputs that span the plane, with their pictures where there are any."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    center = anchors.mean(0)
    for place in shown:
        x, y = anchors[place].tolist()
        ax.plot(x, y, "o", color="white", markeredgecolor="black", markersize=5, zorder=5)
        if not len(pictures):
            ax.annotate(f"x{place}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8, zorder=6)
            continue
        away = anchors[place] - center
        pixels = input_pixels(pictures[place])
        box = AnnotationBbox(
            OffsetImage(pixels, zoom=THUMBNAIL * 72 / pixels.shape[0], cmap="gray"),
            (x, y),
            xybox=tuple((away / away.norm() * 26).tolist()),
            boxcoords="offset points",
            pad=0.1,
            bboxprops={"linewidth": 0.6},
            arrowprops={"arrowstyle": "-", "linewidth": 0.6},
        )
        box.set_in_layout(False)
        ax.add_artist(box)


def _fill(ax: Axes, cells: Complex, colors: np.ndarray | None):
    """All cells as polygons."""
    from matplotlib.collections import PolyCollection

    rings = np.split(cells.points[cells.corners], cells.starts[1:-1])
    # Cells also draw their rims, or the page would shine through between neighbors.
    filled = PolyCollection(rings, facecolors=colors, edgecolors="face", linewidths=0.1)
    ax.add_collection(filled)
    return filled


def _rgb(color: str) -> tuple[float, ...]:
    """A color as numbers from 0 to 1."""
    return tuple(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
