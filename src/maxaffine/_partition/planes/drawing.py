"""One picture of a plane: cells in the colors of what is asked, their edges, the decision boundary, the anchors.

Cells are drawn as the polygons that they are, not as pixels: what the picture shows is exact at any zoom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from maxaffine._drawing import CLASSES, LIGHTER, axes_for, draw_strokes, fill_polygons, input_pixels
from maxaffine._partition.planes.boundary import Contours, Segments
from maxaffine._partition.planes.complex.cells import Complex

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Edges are hairlines where there are many of them.
THICK, THIN, MANY = 0.45, 0.12, 3000
SHADES = 256
NARROWEST = 0.4  # the shorter side of a new figure beside its longer one, at least
# The few cells with the steepest and the flattest maps share the colors at the ends, or one of them would leave a
# single color to all others.
QUANTILES = 0.01, 0.99
THUMBNAIL = 0.55  # inches of an anchor's picture
BOUNDARY = "#111111"


@dataclass(frozen=True)
class Style:
    """How a plane is drawn; None where the picture decides by itself."""

    cmap: str | Colormap | None = None
    linewidth: float | None = None
    rasterized: bool | None = None

    def colors(self, count: int, default: str = "viridis") -> np.ndarray:
        """(count, 4) colors, evenly spaced on the color map."""
        from matplotlib import colormaps

        return colormaps.get_cmap(self.cmap or default)(np.linspace(0, 1, count))

    def pixels(self, cells: Complex) -> bool:
        """Whether cells and edges become pixels in a vector file: more of them than this weigh megabytes."""
        return len(cells.counts) > MANY if self.rasterized is None else self.rasterized


def axes_around(cells: Complex, ax: Axes | None, size: float) -> Axes:
    """Axes that are given, or those of a new figure."""
    # In the shape of the plane, or there would be empty bands beside it.
    wide, high = np.ptp(cells.points, axis=0).tolist()
    tall = min(max(high / wide, NARROWEST), 1 / NARROWEST)
    return axes_for(ax, 1.0, tall, sheet=False, size=size / max(1.0, tall))


def draw_classes(ax: Axes, cells: Complex, classes: np.ndarray, called: Callable[[int], str], style: Style) -> None:
    """Cells that have one class each in the colors of these; every class is named in its middle."""
    from matplotlib.colors import to_rgba_array

    present = np.unique(classes)
    count = int(present.max()) + 1
    every = to_rgba_array([CLASSES[number % len(CLASSES)] for number in range(count)])
    palette = (1 - LIGHTER) * every + LIGHTER if style.cmap is None else style.colors(count)
    _fill(ax, cells, classes, palette, style)
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


def draw_bands(ax: Axes, cells: Complex, found: Contours, style: Style) -> None:
    """Bands of one output between its level sets."""
    count = len(found.levels) + 1
    palette = style.colors(count)
    _fill(ax, cells, found.numbers, palette, style)
    ends = [found.low, *found.levels, found.high] if count > 1 else [found.low]
    places = [number - 0.5 if count > 1 else 0.0 for number in range(len(ends))]
    bar = _bar(ax, palette)
    bar.set_ticks(places, labels=[f"{value:.4g}".replace("-", "−") for value in ends])
    bar.ax.tick_params(labelsize=7)


def draw_norms(ax: Axes, cells: Complex, norms: np.ndarray, style: Style) -> None:
    """Cells by a number each, the extreme ones in the colors of the ends."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    palette = style.colors(SHADES)
    low, high = _quantiles(norms, cells.areas)
    scale = Normalize(low, high if high > low else low + 1, clip=True)
    _fill(ax, cells, (scale(norms) * (SHADES - 1)).round().astype(int), palette, style)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = beyond[bool((norms < low).any()), bool((norms > high).any())]
    shown = ScalarMappable(scale, ListedColormap(palette))
    ax.figure.colorbar(shown, ax=ax, shrink=0.75, extend=extend).ax.tick_params(labelsize=7)


def draw_depths(ax: Axes, cells: Complex, depths: np.ndarray, operators: Sequence[str], style: Style) -> None:
    """Cells by the operator that cut them last; -1 for none."""
    count = len(operators) + 1
    palette = style.colors(count, "cividis")
    _fill(ax, cells, depths + 1, palette, style)
    bar = _bar(ax, palette)
    shown = np.unique(np.linspace(0, count - 1, min(count, 12)).round().astype(int))
    bar.set_ticks(shown.tolist(), labels=[("none", *operators)[place] for place in shown])
    bar.ax.tick_params(labelsize=6)


def draw_edges(ax: Axes, cells: Complex, color: str, style: Style) -> None:
    """The boundaries of all operators, and the frame around them."""
    lines = cells.points[cells.ends[cells.operator >= 0]]
    width = (THICK if len(cells.counts) < MANY else THIN) if style.linewidth is None else style.linewidth
    draw_strokes(ax, lines, color, width, style.pixels(cells))
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
    draw_strokes(ax, segments.points.numpy(), BOUNDARY, width, rasterized=len(segments.points) > 3 * MANY)


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


def _fill(ax: Axes, cells: Complex, colors: np.ndarray, palette: np.ndarray, style: Style) -> None:
    """All cells, each in one color of the palette."""
    fill_polygons(ax, cells.points, cells.corners, cells.starts, colors, palette, style.pixels(cells))


def _bar(ax: Axes, palette: np.ndarray):
    """A color bar of numbered colors."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    count = len(palette)
    shown = ScalarMappable(BoundaryNorm(np.arange(count + 1) - 0.5, count), ListedColormap(palette))
    return ax.figure.colorbar(shown, ax=ax, shrink=0.75)


def _quantiles(values: np.ndarray, areas: np.ndarray) -> tuple[float, ...]:
    """The values that bound the middle of the picture's area."""
    order = values.argsort()
    shares = areas[order].cumsum() / areas.sum()
    return tuple(values[order[np.searchsorted(shares, share).clip(max=len(order) - 1)]].item() for share in QUANTILES)
