"""A partitioned plane to move the mouse over: one self-contained piece of HTML, or a page of its own."""

import base64
from collections.abc import Callable, Sequence
from math import ceil, isfinite, prod
from typing import Any

import numpy as np
import torch

from maxaffine._chunks import slices
from maxaffine._drawing import Kind, kind_of, shown, side_by_side
from maxaffine._network import Task
from maxaffine._partition import PlanePartition
from maxaffine._report.drawn_plane import DrawnPlane
from maxaffine._report.figures import input_panel
from maxaffine._report.layout import data_uri, lay_out
from maxaffine._report.subject import title_of
from maxaffine.errors import BadInput

TEMPLATE = "plane.html.j2"
THUMBNAIL = 88
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
    """A partition as a page of its own, on which a cell under the mouse shows its outputs, codes and template."""
    if partition.regions > MOST_CELLS:
        raise BadInput(f"partition: {partition.regions} cells are too many for a page; choose a smaller extent")
    content = plane_content(partition, partition.name_answers(class_names), TEMPLATE_BYTES)
    return lay_out(TEMPLATE, title=f"{title}: {partition.regions} regions", plane=content)


def plane_content(
    partition: PlanePartition,
    name: Callable[[int], str],
    template_bytes: int,
    anchors: Sequence[str] = (),
    features: Sequence[str] = (),
) -> dict[str, Any]:
    """How a plane is colored, for the words around its picture, and the ``data`` of the script that draws it."""
    drawn = DrawnPlane.of(partition)
    colored, summary = partition.coloring, drawn.summary()
    titles = {record.name: title_of(record) for record in partition.frame.net.operators}
    places = partition.frame.anchors
    plane = summary | {
        "operators": [titles.get(operator, operator) for operator in drawn.operators],
        "anchors": [] if places is None else places.tolist(),
        "labels": list(anchors),
    }
    what = "" if colored == "value" else "slope "
    bands = [f"{what}{_words_of(low)} to {_words_of(high)}" for low, high in drawn.ranges]
    data = _cells(drawn, name) | {
        "plane": plane,
        "picture": drawn.whole(),
        "names": dict(enumerate(bands)) if bands else {number: name(number) for number, _ in summary["shares"]},
        "inputs": _inputs(partition),
        "templates": None if colored == "norm" else _templates(drawn, name, template_bytes),
        "start": _start(drawn),
    }
    if features:
        data["features"] = list(features)
    return {
        "colored": {"norm": "slope"}.get(colored, colored),
        "several": prod(partition.graph.values[partition.number].units) > 1,
        "boundary": len(drawn.boundary) > 0,
        "surface": len(drawn.surface) > 0,
        "data": data,
    }


def _cells(drawn: DrawnPlane, name: Callable[[int], str]) -> dict[str, Any]:
    """What is said of every cell, and the operators whose codes are told."""
    cells = drawn.cells
    titles = {record.name: title_of(record) for record in cells.frame.net.operators}
    # Not those of what divides regions further: the decision boundary and level sets are no operators of the network.
    codes = {operator: part for operator, part in cells.codes().items() if operator in titles}
    above = [(part.unpack().flatten(1) > 0).sum(1).tolist() for part in codes.values()]
    areas = (cells.areas / cells.areas.sum()).tolist()
    rows = zip(areas, cells.centers.tolist(), _outputs(cells, name), strict=True)
    return {
        "coded": [[titles[operator], part.unit_count] for operator, part in codes.items()],
        "cells": [
            {"area": _short(area), "center": center, "outputs": outputs, "codes": [part[cell] for part in above]}
            for cell, (area, center, outputs) in enumerate(rows)
        ],
    }


def _inputs(partition: PlanePartition) -> list[str]:
    """The inputs that span the plane as addresses of pictures; none where they are not pictures."""
    anchors, net = partition.frame.anchors, partition.frame.net
    shape = net.inputs.units[0]
    if anchors is None or len(net.inputs.units) > 1 or len(shape) > 4 or kind_of(shape) is not Kind.PICTURE:
        return []
    inputs = partition.frame.points(anchors)[0].movedim(net.inputs.batch_dims[0], 0)
    return [data_uri(input_panel(one.numpy(), THUMBNAIL)) for one in inputs]


def _start(drawn: DrawnPlane) -> int:
    """The cell that is told first: that of the first input of the plane, or the largest."""
    anchors = drawn.cells.frame.anchors
    found = -1 if anchors is None else int(drawn.cells.locate(anchors[:1])[0])
    return found if found >= 0 else int(drawn.cells.areas.argmax())


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


def _templates(drawn: DrawnPlane, name: Callable[[int], str], most: int) -> dict[str, Any] | None:
    """Every cell's template as bytes about 128, and the value at the ends of the scale; None where there is none."""
    cells = drawn.cells
    shape = cells.frame.net.inputs.units[0]
    work = cells.regions * sum(prod(record.units) for record in cells.frame.net.operators)
    if len(cells.frame.net.inputs.units) > 1 or len(shape) > 4 or work > TEMPLATE_WORK or cells.regions > most:
        return None
    # Averaged over larger and larger squares of pixels, until all of them fit. A picture of too few squares shows
    # nothing any more, and entries of a row are not neighbors to be averaged.
    kind = kind_of(shape)
    height, width = _flat(np.empty(shape, bool)).shape if len(shape) > 1 else (1, prod(shape))
    square = 1
    while cells.regions * ceil(height / square) * ceil(width / square) > most:
        square += 1
    if kind is Kind.PICTURE and ceil(max(height, width) / square) < SMALLEST_SIDE < max(height, width):
        return None
    if kind is not Kind.PICTURE and square > 1:
        return None
    classes = cells.task is Task.CLASSES
    single = prod(cells.graph.values[cells.number].units) == 1
    rows = np.zeros((cells.regions, ceil(height / square) * ceil(width / square)), dtype=np.uint8)
    ends = np.ones(cells.regions)
    # Of classes that of the answer, else that of the first value.
    units = drawn.groups if classes and not single else np.zeros(cells.regions, dtype=np.int64)
    step = min(AT_ONCE, 2**24 // prod(shape))
    for unit in np.unique(units).tolist():
        of = np.flatnonzero(units == unit)
        for chosen in (of[part] for part in slices(len(of), step)):
            slopes = torch.as_tensor(cells.affine_map(chosen, outputs=[unit]).slopes)[:, 0].numpy()
            maps = np.stack([_average(_flat(item).reshape(height, width), square).ravel() for item in slopes])
            ends[chosen] = np.abs(maps).max(1)
            # A map that is zero everywhere, as in a region of dead units, stays in the middle.
            rows[chosen] = np.round(128 + 127 * maps / np.maximum(ends[chosen], 1e-300)[:, None])
    return {
        "of": ("the output" if single else "the answer") if classes else name(0),
        "kind": kind.value,
        "height": ceil(height / square),
        "width": ceil(width / square),
        "square": square,
        "ends": [float(f"{end:.3g}") for end in ends.tolist()],
        "data": base64.b64encode(rows.tobytes()).decode("ascii"),
    }


def _flat(template: np.ndarray) -> np.ndarray:
    """A template as one picture (H, W): channels summed, slices side by side."""
    return shown(side_by_side(template))


def _average(values: np.ndarray, square: int) -> np.ndarray:
    """The means over squares; those at the right and lower rim may be narrower."""
    # Sums from the start of each square to that of the next; the sums of ones are how many entries that was.
    down, across = (np.arange(0, size, square) for size in values.shape)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(item, down, 0), across, 1) for item in (values, np.ones_like(values))
    )
    return sums / counts


def _words_of(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _short(value: float) -> float | str:
    return float(f"{value:.3g}") if isfinite(value) else str(value).replace("inf", "∞")
