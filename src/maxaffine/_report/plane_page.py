"""A partitioned plane to move the mouse over: one self-contained piece of HTML, or a page of its own."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, prod
from typing import Any

import numpy as np
import torch

from maxaffine._drawing import Kind, kind_of, shown
from maxaffine._network import Task
from maxaffine._partition import PlanePartition
from maxaffine._report.contours import contours_of
from maxaffine._report.hierarchy import CLASSES
from maxaffine._report.layout import laid_out
from maxaffine._report.planes import called_by, default_colorings
from maxaffine._report.sections.subject import title_of
from maxaffine.errors import BadInput

TEMPLATE = "plane.html.j2"
PIXELS = 640
MOST_CELLS = 20_000
TEMPLATE_BYTES = 8 * 2**20
# Too large a template is averaged over squares, down to this side.
SMALLEST_SIDE = 24
# Numbers that may be computed for the templates of all cells: about a minute.
TEMPLATE_WORK = 3e9
SHOWN_OUTPUTS = 3
AT_ONCE = 512


def plane_page(
    partition: PlanePartition, class_names: Sequence[str] | None = None, title: str = "Partition of a plane"
) -> str:
    """Lay out a partition as a page on which a cell under the mouse shows its answer, outputs, codes and template.

    Cells are colored by their class; where outputs are values, the first one is shown as bands between its level sets.

    Args:
        partition: What to show, of at most 20,000 cells.
        class_names: Names of the classes, or of the values; their numbers by default.
        title: Its title.

    Returns:
        HTML that refers to no other file. Templates (the row of the class, or of the value, in A, summed over channels)
        are in it where inputs have a plain picture; where they would take more than 8 MiB they are averaged over
        squares of pixels.

    Raises:
        BadInput: For too many cells or too few names.
    """
    if partition.regions > MOST_CELLS:
        raise BadInput(f"partition: {partition.regions} cells are too many for a page; choose a smaller extent")
    content = plane_content(partition, called_by(partition, class_names), TEMPLATE_BYTES)
    return laid_out(TEMPLATE, title=f"{title}: {partition.regions} regions", content=content)


def plane_content(
    partition: PlanePartition, name: Callable[[int], str], template_bytes: int, anchors: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything that the picture of a plane and the words beside it need.

    Args:
        partition: What to show.
        name: The name of a class, or of a value, by its number.
        template_bytes: About how large the templates of all cells may be.
        anchors: What to call the inputs that span the plane.

    Returns:
        Plain lists and dicts. Cells are colored by class, by the first value, or, where each output is a picture, by
        the norm of their slopes within the plane; then they have no template.
    """
    low, high = partition.cells.points.min(0), partition.cells.points.max(0)
    scale = PIXELS / float((high - low).max())
    width, height = ((high - low) * scale).round().astype(int).tolist()

    def placed(points: np.ndarray) -> list:
        return np.round((points - [low[0], high[1]]) * [1, -1] * scale, 1).tolist()

    colored = default_colorings(partition)[0]
    color = {"class": _by_class, "value": _by_value, "norm": _by_norm}[colored]
    corners, starts = placed(partition.cells.points[partition.cells.corners]), partition.cells.starts
    places = [] if partition.frame.anchors is None else placed(partition.frame.anchors.numpy())
    inside = [0 <= x <= width and 0 <= y <= height for x, y in places]
    found = color(partition, name, placed)
    return {
        "width": width,
        "height": height,
        "colored": colored,
        "several": prod(partition.graph.values[partition.number].units) > 1,
        "key": found.key,
        "cells": [corners[starts[number] : starts[number + 1]] for number in range(partition.regions)],
        "fills": [fill if whole else "none" for fill, whole in zip(found.fills, found.whole, strict=True)],
        "parts": found.parts,
        "boundary": found.bold,
        "levels": found.thin,
        "anchors": [[*place, word] for place, word, seen in zip(places, anchors, inside, strict=False) if seen],
        "data": _words(partition, name)
        | {
            "fills": found.fills,
            "templates": None if colored == "norm" else _templates(partition, name, template_bytes),
            "start": _start(partition),
        },
    }


@dataclass(frozen=True)
class _Colors:
    """How a plane is colored.

    Attributes:
        fills: The color of each cell, at its center.
        whole: Whether it has that color all over.
        parts: The parts of all other cells: a color and the corners each.
        key: What colors mean: a color and words each.
        bold: Segments in bold.
        thin: Other segments.
    """

    fills: list[str]
    whole: list[bool]
    parts: list[list]
    key: list[list[str]]
    bold: list
    thin: list


def _words(partition: PlanePartition, name: Callable[[int], str]) -> dict[str, Any]:
    """What is said of every cell, and of the operators."""
    codes = partition.codes()
    above = np.stack([(part.unpack().flatten(1) > 0).sum(1).numpy() for part in codes.values()], 1) if codes else None
    areas = partition.areas.numpy() / float(partition.areas.sum())
    outputs = _outputs(partition, name)
    titles = {record.name: title_of(record) for record in partition.frame.net.operators}
    return {
        "operators": [titles.get(operator, operator) for operator in partition.operators],
        "coded": [[titles[operator], part.unit_count] for operator, part in codes.items()],
        "cells": [
            {
                "area": _short(areas[number]),
                "depth": int(partition.depths[number]),
                "outputs": outputs[number],
                "codes": [] if above is None else above[number].tolist(),
            }
            for number in range(partition.regions)
        ],
        "classes": [name(number) for number in partition.classes.tolist()] if partition.task is Task.CLASSES else [],
    }


def _start(partition: PlanePartition) -> int:
    """The cell that is described first: that of the first input of the plane, or the largest."""
    anchors = partition.frame.anchors
    found = -1 if anchors is None else int(partition.locate(anchors[:1])[0])
    return found if found >= 0 else int(partition.areas.argmax())


def _by_class(partition: PlanePartition, name: Callable[[int], str], placed: Callable[[np.ndarray], list]) -> _Colors:
    """The largest classes in colors of their own, the others gray; cells of several classes are divided."""
    divided, decided = partition.divided_by_class(), partition.decided
    sums = np.bincount(divided.classes.numpy(), weights=divided.areas.numpy())
    ranked = [number for number in np.argsort(-sums, kind="stable").tolist() if sums[number] > 0]
    own = {number: CLASSES[min(rank, len(CLASSES) - 1)] for rank, number in enumerate(ranked)}
    key = [[own[number], name(number)] for number in ranked[: len(CLASSES) - 1]]
    rest = ranked[len(CLASSES) - 1 :]
    if rest:
        key.append([CLASSES[-1], name(rest[0]) if len(rest) == 1 else f"{len(rest)} other classes"])
    inside = (~decided)[partition.locate(divided.centers)].numpy()
    return _Colors(
        fills=[own.get(number, CLASSES[-1]) for number in partition.classes.tolist()],
        whole=decided.tolist(),
        parts=_rings(divided, [own[number] for number in divided.classes.tolist()], inside, placed),
        key=key,
        bold=placed(partition.decision_boundary().points.numpy()),
        thin=[],
    )


def _by_value(partition: PlanePartition, name: Callable[[int], str], placed: Callable[[np.ndarray], list]) -> _Colors:
    """The first value as bands between its level sets; that of 0 is bold in a field of one value."""
    found = contours_of(partition, 0)
    owner, colors = partition.locate(found.bands.centers).numpy(), np.array(found.colors)
    center = np.searchsorted(found.levels, partition.at(partition.centers)[:, 0].numpy())
    many = np.bincount(owner, minlength=partition.regions) > 1
    surface = partition.task is Task.FIELD and partition.values.shape[1] == 1
    bold = [surface and level == 0 for level in found.levels]
    segments = [placed(lines.points.numpy()) for lines in found.lines]
    ends = [f"{_words_of(low)} to {_words_of(high)}" for low, high in found.ranges]
    return _Colors(
        fills=colors[center].tolist(),
        whole=(~many).tolist(),
        parts=_rings(found.bands, colors[found.numbers].tolist(), many[owner], placed),
        key=[list(pair) for pair in zip(found.colors, ends, strict=True)],
        bold=[one for lines, thick in zip(segments, bold, strict=True) if thick for one in lines],
        thin=[one for lines, thick in zip(segments, bold, strict=True) if not thick for one in lines],
    )


def _rings(
    divided: PlanePartition, colors: list[str], wanted: np.ndarray, placed: Callable[[np.ndarray], list]
) -> list[list]:
    """A color and the corners of each wanted cell."""
    corners, starts = placed(divided.cells.points[divided.cells.corners]), divided.cells.starts
    return [[colors[part], corners[starts[part] : starts[part + 1]]] for part in np.flatnonzero(wanted).tolist()]


def _by_norm(partition: PlanePartition, name: Callable[[int], str], placed: Callable[[np.ndarray], list]) -> _Colors:
    """The norm of the slopes, from dark (flat) to bright (steep)."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    norms = partition.slope_norms.numpy()
    low, high = float(norms.min()), float(norms.max())
    shades = (norms - low) / ((high - low) or 1.0)
    ends = [[to_hex(colormaps["viridis"](place)), f"slope {value:.3g}"] for place, value in ((0.0, low), (1.0, high))]
    fills = [to_hex(color) for color in colormaps["viridis"](shades)]
    return _Colors(fills, [True] * len(fills), [], ends, [], [])


def _outputs(partition: PlanePartition, name: Callable[[int], str]) -> list[list[list]]:
    """The largest outputs (of values the first) at the center of every cell, with their names."""
    found = []
    for part in partition.centers.split(AT_ONCE):
        rows = partition.at(part)
        if partition.task is not Task.CLASSES or rows.shape[1] == 1:
            order = torch.arange(min(SHOWN_OUTPUTS, rows.shape[1])).expand(len(rows), -1)
        else:
            order = rows.argsort(dim=1, descending=True, stable=True)[:, :SHOWN_OUTPUTS]
        # The single output of two classes is neither of them.
        logit = partition.task is Task.CLASSES and rows.shape[1] == 1
        found += [
            [["the output" if logit else name(unit), _short(row[unit])] for unit in units]
            for units, row in zip(order.tolist(), rows.tolist(), strict=True)
        ]
    return found


def _templates(partition: PlanePartition, name: Callable[[int], str], most: int) -> dict[str, Any] | None:
    """Every cell's template as bytes about 128, and the value at the ends of the scale; None where there is none."""
    classes = partition.task is Task.CLASSES
    shape = partition.frame.net.inputs.units[0]
    work = partition.regions * sum(prod(record.units) for record in partition.frame.net.operators)
    if len(partition.frame.net.inputs.units) > 1 or len(shape) > 3 or work > TEMPLATE_WORK or partition.regions > most:
        return None
    height, width = list(shape[-2:]) if kind_of(shape) is Kind.PICTURE else [1, prod(shape)]
    square = 1
    while partition.regions * ceil(height / square) * ceil(width / square) > most:
        square += 1
    if min(height, width) > 1 and ceil(max(height, width) / square) < SMALLEST_SIDE < max(height, width):
        return None
    if height == 1 and square > 1:
        return None
    single = prod(partition.graph.values[partition.number].units) == 1
    rows = np.zeros((partition.regions, ceil(height / square) * ceil(width / square)), dtype=np.uint8)
    ends = np.ones(partition.regions)
    chosen_rows = np.zeros(partition.regions, dtype=np.int64)
    if classes and not single:
        chosen_rows = partition.classes.numpy()
    for row in np.unique(chosen_rows).tolist():
        of = np.flatnonzero(chosen_rows == row)
        step = max(1, min(AT_ONCE, 2**24 // prod(shape)))
        for chosen in (of[start : start + step] for start in range(0, len(of), step)):
            slopes = torch.as_tensor(partition.affine_map(chosen, outputs=[row]).slopes)[:, 0].numpy()
            maps = np.stack([_average(shown(item).reshape(height, width), square).ravel() for item in slopes])
            ends[chosen] = np.abs(maps).max(1)
            rows[chosen] = np.round(128 + 127 * maps / np.maximum(ends[chosen], 1e-300)[:, None])
    data = base64.b64encode(rows.tobytes()).decode("ascii")
    return {
        "of": ("the output" if single else "the answer") if classes else name(0),
        "height": ceil(height / square),
        "width": ceil(width / square),
        "square": square,
        "ends": [_short(end) for end in ends],
        "data": data,
    }


def _average(values: np.ndarray, square: int) -> np.ndarray:
    """The means over squares; those at the right and lower rim may be narrower."""
    down, across = (np.arange(0, size, square) for size in values.shape)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(item, down, 0), across, 1) for item in (values, np.ones_like(values))
    )
    return sums / counts


def _words_of(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _short(value: float) -> float | str:
    return float(f"{value:.3g}") if isfinite(value) else str(value).replace("inf", "∞")
