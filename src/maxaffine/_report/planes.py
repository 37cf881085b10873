"""Pictures of a partitioned plane: cells by class or value, by the norm of their map, by the operator that cut last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from maxaffine._drawing import CLASSES, Kind, input_pixels, kind_of, require, short
from maxaffine._network import Task
from maxaffine._partition import PlanePartition, Segments
from maxaffine._report.contours import contours_of
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORINGS = ("class", "value", "norm", "depth")
SIDE = 3.6  # inches of one panel
LIGHTER = 0.35
# Edges are hairlines where there are many of them.
THICK, THIN, MANY = 0.45, 0.12, 3000
THUMBNAIL = 0.55  # inches of an anchor's picture
BOUNDARY = "#111111"
MOST_VALUES = 3  # outputs with a panel each, where nobody chooses


def plane_figure(
    partition: PlanePartition,
    colorings: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    boundary: bool = True,
    anchors: bool = True,
    outputs: Sequence[int] | None = None,
) -> Figure:
    """Draw a partition of a plane, a panel for each way to color its cells.

    Args:
        partition: What to draw.
        colorings: Of ``"class"`` (the largest output, exact within cells too), ``"value"`` (bands between exact level
            sets, a panel for each output), ``"norm"`` (of the slopes of the map within the plane) and ``"depth"`` (the
            last operator that cut the cell). By default what the network answers, and the last two.
        class_names: Names of the classes, or of the values; their numbers by default.
        boundary: Whether the decision boundary of classes is drawn in bold.
        anchors: Whether the inputs that span the plane are marked, with their pictures where they are images.
        outputs: Flat numbers of the outputs of ``"value"``; the first three by default.

    Returns:
        The figure.

    Raises:
        BadInput: For an unknown coloring or output, too few names, or classes of outputs that are values.
        MaxAffineError: When matplotlib is absent.
    """
    require("a figure")
    from matplotlib.figure import Figure

    colorings = default_colorings(partition) if colorings is None else colorings
    if not colorings or set(colorings) - set(COLORINGS):
        raise BadInput(f"colorings: expected some of {', '.join(COLORINGS)}, got {list(colorings)}")
    called = called_by(partition, class_names)
    count = prod(partition.graph.values[partition.number].units)
    shown = list(range(min(count, MOST_VALUES))) if outputs is None else list(outputs)
    if not shown or not set(shown) <= set(range(count)):
        raise BadInput(f"outputs: expected some of 0..{count - 1}, got {shown}")
    panels = [(coloring, output) for coloring in colorings for output in (shown if coloring == "value" else shown[:1])]
    figure = Figure(figsize=(len(panels) * (SIDE + 0.9), SIDE + 0.9), layout="constrained")
    for ax, (coloring, output) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if coloring == "class":
            _classes(ax, partition, called)
        elif coloring == "value":
            _values(ax, partition, output, called(output))
        elif coloring == "norm":
            _norms(ax, partition)
        else:
            _depths(ax, partition)
        _frame(ax, partition)
        if boundary and partition.task is Task.CLASSES:
            _bold(ax, partition)
        if anchors and partition.frame.anchors is not None:
            _anchors(ax, partition, partition.frame.anchors)
    return figure


def default_colorings(partition: PlanePartition) -> tuple[str, ...]:
    """What the network answers (not of outputs that are a picture each), the slopes and the depth of the cut."""
    if len(partition.graph.values[partition.number].units) > 1:
        return ("norm", "depth")
    return ("class" if partition.task is Task.CLASSES else "value", "norm", "depth")


def called_by(partition: PlanePartition, names: Sequence[str] | None) -> Callable[[int], str]:
    """The name of each class, or value; their numbers, or "the value", where no names are given."""
    count = prod(partition.graph.values[partition.number].units)
    classes = partition.task is Task.CLASSES
    if classes:
        count = max(2, count)
    if names is None:
        return str if classes else lambda number: "the value" if count == 1 else f"value {number}"
    if len(names) < count:
        raise BadInput(f"class_names: {len(names)} for {count} {'classes' if classes else 'values'}; give one for each")
    return names.__getitem__


def _classes(ax: Axes, partition: PlanePartition, called: Callable[[int], str]) -> None:
    """Cells in the colors of their classes, undecided ones divided; every class is named in its middle."""
    decided = partition.divided_by_class()
    classes = decided.classes.numpy()
    present = np.unique(classes)
    colors = np.array([_rgb(CLASSES[number % len(CLASSES)]) for number in range(int(present.max()) + 1)])
    _fill(ax, decided, (1 - LIGHTER) * colors[classes] + LIGHTER)
    _edges(ax, partition)
    areas = decided.areas.numpy()
    for number in present.tolist():
        of = np.flatnonzero(classes == number)
        if areas[of].sum() < 0.004 * areas.sum():
            continue
        centers = decided.centers.numpy()[of]
        middle = (centers * areas[of, None]).sum(0) / areas[of].sum()
        x, y = centers[np.hypot(*(centers - middle).T).argmin()].tolist()
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        ax.text(x, y, called(number), ha="center", va="center", fontsize=8, bbox=box, parse_math=False)
    ax.set_title(f"class ({partition.regions} regions)", fontsize=9)


def _values(ax: Axes, partition: PlanePartition, output: int, name: str) -> None:
    """Bands of one output between its level sets; that of 0, the surface of a field of one value, in bold."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    found = contours_of(partition, output)
    filled = _fill(ax, found.bands, None)
    filled.set_array(found.numbers)
    filled.set_cmap(ListedColormap(found.colors))
    count = len(found.colors)
    filled.set_norm(BoundaryNorm(np.arange(count + 1) - 0.5, count))
    _edges(ax, partition, "white")
    surface = partition.task is Task.FIELD and partition.values.shape[1] == 1
    for level, segments in zip(found.levels, found.lines, strict=True):
        bold = surface and level == 0
        _segments(ax, segments, 1.8 if bold else 0.7)
    ax.set_title(f"{short(name, 30)} ({partition.regions} regions)", fontsize=9, parse_math=False)
    bar = ax.figure.colorbar(filled, ax=ax, shrink=0.75)
    ends = [found.low, *found.levels, found.high] if count > 1 else [found.low]
    places = [number - 0.5 if count > 1 else 0.0 for number in range(len(ends))]
    bar.set_ticks(places, labels=[f"{value:.4g}".replace("-", "−") for value in ends])
    bar.ax.tick_params(labelsize=7)


def _norms(ax: Axes, partition: PlanePartition) -> None:
    filled = _fill(ax, partition, None)
    filled.set_array(partition.slope_norms.numpy())
    filled.set_cmap("viridis")
    _edges(ax, partition, "white")
    ax.set_title("norm of the slopes within the plane", fontsize=9)
    ax.figure.colorbar(filled, ax=ax, shrink=0.75).ax.tick_params(labelsize=7)


def _depths(ax: Axes, partition: PlanePartition) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm

    count = len(partition.operators) + 1
    filled = _fill(ax, partition, None)
    filled.set_array(partition.depths.numpy() + 1)
    filled.set_cmap(colormaps["cividis"].resampled(count))
    filled.set_norm(BoundaryNorm(np.arange(count + 1) - 0.5, count))
    _edges(ax, partition, "white")
    ax.set_title("operator that cut the cell last", fontsize=9)
    bar = ax.figure.colorbar(filled, ax=ax, shrink=0.75)
    shown = np.unique(np.linspace(0, count - 1, min(count, 12)).round().astype(int))
    bar.set_ticks(shown.tolist(), labels=[("none", *partition.operators)[place] for place in shown])
    bar.ax.tick_params(labelsize=6)


def _fill(ax: Axes, partition: PlanePartition, colors: np.ndarray | None):
    from matplotlib.collections import PolyCollection

    cells = partition.cells
    rings = np.split(cells.points[cells.corners], cells.starts[1:-1])
    # Cells also draw their rims, or the page would shine through between neighbors.
    filled = PolyCollection(rings, facecolors=colors, edgecolors="face", linewidths=0.1)
    ax.add_collection(filled)
    return filled


def _edges(ax: Axes, partition: PlanePartition, color: str = "#333333") -> None:
    from matplotlib.collections import LineCollection

    inner = partition.cells.operator >= 0
    lines = partition.cells.points[partition.cells.ends[inner]]
    width = THICK if partition.regions < MANY else THIN
    ax.add_collection(LineCollection(list(lines), colors=color, linewidths=width))


def _bold(ax: Axes, partition: PlanePartition) -> None:
    _segments(ax, partition.decision_boundary(), 1.8)


def _segments(ax: Axes, segments: Segments, width: float) -> None:
    from matplotlib.collections import LineCollection

    drawn = LineCollection(list(segments.points.numpy()), colors=BOUNDARY, linewidths=width, capstyle="round")
    ax.add_collection(drawn)


def _anchors(ax: Axes, partition: PlanePartition, anchors: Tensor) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    inputs = partition.frame.points(anchors)[0]
    dim = partition.frame.net.inputs.batch_dims[0]
    pictured = len(partition.frame.origin) == 1 and _is_picture(tuple(inputs.movedim(dim, 0).shape[1:]))
    center = anchors.mean(0)
    for place in np.flatnonzero(partition.locate(anchors).numpy() >= 0).tolist():
        x, y = anchors[place].tolist()
        ax.plot(x, y, "o", color="white", markeredgecolor="black", markersize=5, zorder=5)
        away = anchors[place] - center
        away = (away / away.norm() * 26).tolist()
        if pictured:
            pixels = input_pixels(inputs.movedim(dim, 0)[place].numpy())
            picture = OffsetImage(pixels, zoom=THUMBNAIL * 72 / pixels.shape[0], cmap="gray")
            box = AnnotationBbox(
                picture,
                (x, y),
                xybox=tuple(away),
                boxcoords="offset points",
                pad=0.1,
                bboxprops={"linewidth": 0.6},
                arrowprops={"arrowstyle": "-", "linewidth": 0.6},
            )
            box.set_in_layout(False)
            ax.add_artist(box)
        else:
            ax.annotate(f"x{place}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8, zorder=6)


def _frame(ax: Axes, partition: PlanePartition) -> None:
    low, high = partition.cells.points.min(0), partition.cells.points.max(0)
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    ax.set_aspect("equal")
    ax.tick_params(labelsize=7)
    spanned = partition.frame.anchors is not None
    ax.set_xlabel("distance in input space" if spanned else "t₁", fontsize=8)
    ax.set_ylabel("distance in input space" if spanned else "t₂", fontsize=8)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) <= 3 and kind_of(shape) is Kind.PICTURE


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
