"""Pictures of a partitioned plane: cells by class or value, by the norm of their map, by the operator that cut last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING

from maxaffine._drawing import require
from maxaffine._partition import COLORINGS, PlanePartition
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 3.6  # inches of one panel
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
    partition.name_answers(class_names)
    count = prod(partition.graph.values[partition.number].units)
    shown = list(range(min(count, MOST_VALUES))) if outputs is None else list(outputs)
    if not shown or not set(shown) <= set(range(count)):
        raise BadInput(f"outputs: expected some of 0..{count - 1}, got {shown}")
    panels = [(coloring, output) for coloring in colorings for output in (shown if coloring == "value" else shown[:1])]
    figure = Figure(figsize=(len(panels) * (SIDE + 0.9), SIDE + 0.9), layout="constrained")
    for ax, (coloring, output) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        partition.plot(ax, coloring, output=output, names=class_names, boundary=boundary, anchors=anchors)
    return figure


def default_colorings(partition: PlanePartition) -> tuple[str, ...]:
    """What the network answers, the norm of the slopes and the depth of the cut.

    Args:
        partition: The plane.

    Returns:
        Names of colorings; of outputs that are a picture each, the last two.
    """
    return tuple(dict.fromkeys((partition.coloring, "norm", "depth")))


def called_by(partition: PlanePartition, names: Sequence[str] | None) -> Callable[[int], str]:
    """What to call classes, or values, by their numbers.

    Args:
        partition: The plane.
        names: Their names; numbers, or "the value", where there are none.

    Returns:
        The name of each.

    Raises:
        BadInput: For fewer names than there are classes or values.
    """
    return partition.name_answers(names)
