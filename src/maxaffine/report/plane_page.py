"""A partitioned plane to move the mouse over: one self-contained piece of HTML, or a page of its own."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from math import ceil, prod
from typing import Any

import numpy as np
import torch

from maxaffine.drawing import Kind, kind_of, shown
from maxaffine.errors import BadInput
from maxaffine.partition import PlanePartition
from maxaffine.report.hierarchy import CLASSES
from maxaffine.report.layout import laid_out
from maxaffine.report.sections.subject import title_of

TEMPLATE = "plane.html.j2"
PIXELS = 640
MOST_CELLS = 20_000
TEMPLATE_BYTES = 8 * 2**20
# A template too large is averaged over squares, down to this side.
SMALLEST_SIDE = 24
# Numbers that the templates of all cells may compute: about a minute.
TEMPLATE_WORK = 3e9
SHOWN_OUTPUTS = 3
AT_ONCE = 512


def plane_page(
    partition: PlanePartition, class_names: Sequence[str] | None = None, title: str = "Partition of a plane"
) -> str:
    """Lay out a partition as a page on which a cell under the mouse shows its class, outputs, codes and template.

    Args:
        partition: What to show, of at most 20,000 cells.
        class_names: Names of the classes; their numbers by default.
        title: Its title.

    Returns:
        HTML that refers to no other file. Templates (the row of the class in A, summed over channels) are in it where
        inputs have a plain picture; where they would take more than 8 MiB they are averaged over squares of pixels.

    Raises:
        BadInput: For too many cells or too few class names.
    """
    if partition.regions > MOST_CELLS:
        raise BadInput(f"partition: {partition.regions} cells are too many for a page; choose a smaller extent")
    count = max(2, prod(partition.graph.values[partition.number].units))
    names = [str(number) for number in range(count)] if class_names is None else list(class_names)
    if len(names) < count:
        raise BadInput(f"class_names: {len(names)} names for {count} classes")
    vector = len(partition.graph.values[partition.number].units) == 1
    content = plane_content(partition, names.__getitem__ if vector else None, TEMPLATE_BYTES)
    return laid_out(TEMPLATE, title=f"{title}: {partition.regions} regions", content=content)


def plane_content(
    partition: PlanePartition,
    name: Callable[[int], str] | None,
    template_bytes: int,
    anchors: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that the picture of a plane and the words beside it need.

    Args:
        partition: What to show.
        name: The name of a class by its number; None where the outputs are values: then cells are coloured by the norm
            of their slopes within the plane, and have no template.
        template_bytes: About how large the templates of all cells may be.
        anchors: What to call the inputs that span the plane.

    Returns:
        Plain lists and dicts.
    """
    low, high = partition.cells.points.min(0), partition.cells.points.max(0)
    scale = PIXELS / float((high - low).max())
    width, height = ((high - low) * scale).round().astype(int).tolist()

    def placed(points: np.ndarray) -> list:
        return np.round((points - [low[0], high[1]]) * [1, -1] * scale, 1).tolist()

    fills, key = _by_norm(partition) if name is None else _by_class(partition, name)
    whole, parts = (None, []) if name is None else _parts(partition, placed)
    corners, starts = placed(partition.cells.points[partition.cells.corners]), partition.cells.starts
    places = [] if partition.frame.anchors is None else placed(partition.frame.anchors.numpy())
    inside = [0 <= x <= width and 0 <= y <= height for x, y in places]
    return {
        "width": width,
        "height": height,
        "key": key,
        "cells": [corners[starts[number] : starts[number + 1]] for number in range(partition.regions)],
        "fills": fills if whole is None else [fill if one else "none" for fill, one in zip(fills, whole, strict=True)],
        "parts": parts,
        "boundary": placed(partition.decision_boundary().points.numpy()) if name is not None else [],
        "anchors": [[*place, word] for place, word, seen in zip(places, anchors, inside, strict=False) if seen],
        "data": _words(partition, name)
        | {
            "fills": fills,
            "templates": None if name is None else _templates(partition, template_bytes),
            "start": _start(partition),
        },
    }


def _words(partition: PlanePartition, name: Callable[[int], str] | None) -> dict[str, Any]:
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
        "classes": [] if name is None else [name(number) for number in partition.classes.tolist()],
    }


def _start(partition: PlanePartition) -> int:
    """The cell that is described first: that of the first input of the plane, or the largest."""
    anchors = partition.frame.anchors
    found = -1 if anchors is None else int(partition.locate(anchors[:1])[0])
    return found if found >= 0 else int(partition.areas.argmax())


def _by_class(partition: PlanePartition, name: Callable[[int], str]) -> tuple[list[str], list[list[str]]]:
    """The colour of each cell's class, the largest classes told apart and the others grey; and what colours mean."""
    own, ranked = _colours(partition)
    key = [[own[number], name(number)] for number in ranked[: len(CLASSES) - 1]]
    rest = ranked[len(CLASSES) - 1 :]
    if rest:
        key.append([CLASSES[-1], name(rest[0]) if len(rest) == 1 else f"{len(rest)} other classes"])
    return [own.get(number, CLASSES[-1]) for number in partition.classes.tolist()], key


def _colours(partition: PlanePartition) -> tuple[dict[int, str], list[int]]:
    """The colour of each class that is there, and these classes, the largest first."""
    divided = partition.divided_by_class()
    sums = np.bincount(divided.classes.numpy(), weights=divided.areas.numpy())
    ranked = [number for number in np.argsort(-sums, kind="stable").tolist() if sums[number] > 0]
    return {number: CLASSES[min(rank, len(CLASSES) - 1)] for rank, number in enumerate(ranked)}, ranked


def _parts(partition: PlanePartition, placed: Callable[[np.ndarray], list]) -> tuple[list[bool], list[list]]:
    """Which cells have one class all over; and the parts of the others, a colour and the corners each."""
    divided, decided = partition.divided_by_class(), partition.decided
    own, _ = _colours(partition)
    corners, starts = placed(divided.cells.points[divided.cells.corners]), divided.cells.starts
    inside = (~decided)[partition.locate(divided.centres)].nonzero()[:, 0].tolist()
    classes = divided.classes.tolist()
    return decided.tolist(), [[own[classes[part]], corners[starts[part] : starts[part + 1]]] for part in inside]


def _by_norm(partition: PlanePartition) -> tuple[list[str], list[list[str]]]:
    """A colour per cell from dark, flat, to bright, steep; and what the ends mean."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    norms = partition.slope_norms.numpy()
    low, high = float(norms.min()), float(norms.max())
    shades = (norms - low) / ((high - low) or 1.0)
    ends = [[to_hex(colormaps["viridis"](place)), f"slope {value:.3g}"] for place, value in ((0.0, low), (1.0, high))]
    return [to_hex(colour) for colour in colormaps["viridis"](shades)], ends


def _outputs(partition: PlanePartition, name: Callable[[int], str] | None) -> list[list[list]]:
    """The largest outputs (the first, of values) at the centre of every cell, with their names."""
    found = []
    for part in partition.centres.split(AT_ONCE):
        rows = partition.at(part)
        if name is None or rows.shape[1] == 1:
            order = torch.arange(min(SHOWN_OUTPUTS, rows.shape[1])).expand(len(rows), -1)
        else:
            order = rows.argsort(dim=1, descending=True, stable=True)[:, :SHOWN_OUTPUTS]
        found += [
            [
                [name(unit) if name is not None and len(row) > 1 else f"output {unit}", _short(row[unit])]
                for unit in units
            ]
            for units, row in zip(order.tolist(), rows.tolist(), strict=True)
        ]
    return found


def _templates(partition: PlanePartition, most: int) -> dict[str, Any] | None:
    """Every cell's template as bytes about 128, and the value at the ends of the scale; None where there is none."""
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
    classes = partition.classes.numpy()
    for number in np.unique(classes).tolist():
        of = np.flatnonzero(classes == number)
        row = 0 if single else number
        step = max(1, min(AT_ONCE, 2**24 // prod(shape)))
        for chosen in (of[start : start + step] for start in range(0, len(of), step)):
            slopes = torch.as_tensor(partition.affine_map(chosen, outputs=[row]).slopes)[:, 0].numpy()
            maps = np.stack([_averaged(shown(item).reshape(height, width), square).ravel() for item in slopes])
            ends[chosen] = np.abs(maps).max(1)
            rows[chosen] = np.round(128 + 127 * maps / np.maximum(ends[chosen], 1e-300)[:, None])
    data = base64.b64encode(rows.tobytes()).decode("ascii")
    return {
        "of": "the output" if single else "the answer",
        "height": ceil(height / square),
        "width": ceil(width / square),
        "square": square,
        "ends": [_short(end) for end in ends],
        "data": data,
    }


def _averaged(values: np.ndarray, square: int) -> np.ndarray:
    """The means over squares; those at the right and lower rim may be narrower."""
    down, across = (np.arange(0, size, square) for size in values.shape)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(item, down, 0), across, 1) for item in (values, np.ones_like(values))
    )
    return sums / counts


def _short(value: float) -> float:
    return float(f"{value:.3g}")
