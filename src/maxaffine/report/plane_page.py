"""A partitioned plane to move the mouse over: one self-contained piece of HTML."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib import resources

import numpy as np
import torch

from maxaffine.drawing import is_image, shown
from maxaffine.errors import BadInput
from maxaffine.partition import PlanePartition
from maxaffine.report.hierarchy import CLASSES

TEMPLATE = "plane.html"
PIXELS = 640
MOST_CELLS = 20_000
TEMPLATE_BYTES = 8 * 2**20
SHOWN_OUTPUTS = 20
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
        inputs are images and they take at most 8 MiB; otherwise it says that they are left out.

    Raises:
        BadInput: For too many cells or too few class names.
    """
    if partition.regions > MOST_CELLS:
        raise BadInput(f"partition: {partition.regions} cells are too many for a page; choose a smaller extent")
    count = max(2, partition.values.shape[1])
    names = [str(number) for number in range(count)] if class_names is None else list(class_names)
    if len(names) < count:
        raise BadInput(f"class_names: {len(names)} names for {count} classes")
    content = {
        "title": title,
        "names": names,
        "colours": [CLASSES[number % len(CLASSES)] for number in range(count)],
        "operators": list(partition.operators),
        "cells": _cells(partition),
        "boundary": _placed(partition, _boundary(partition)),
        "templates": _templates(partition),
    }
    source = resources.files("maxaffine.report").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    reach = np.ptp(partition.cells.points, axis=0)
    width, height = (str(round(side)) for side in PIXELS * reach / reach.max())
    # "</" inside a script would end it.
    return (
        source.replace("@CONTENT@", json.dumps(content).replace("</", "<\\/"))
        .replace("@WIDTH@", width)
        .replace("@HEIGHT@", height)
    )


def _placed(partition: PlanePartition, points: np.ndarray) -> list:
    """Pixels from the top left corner, for points (..., 2)."""
    low, high = partition.cells.points.min(0), partition.cells.points.max(0)
    return np.round((points - [low[0], high[1]]) * [1, -1] * (PIXELS / (high - low).max()), 2).tolist()


def _boundary(partition: PlanePartition) -> np.ndarray:
    if len(partition.graph.values[partition.number].units) > 1:
        return np.zeros((0, 2, 2))
    return partition.decision_boundary().points.numpy()


def _cells(partition: PlanePartition) -> list[dict]:
    codes = partition.codes()
    above = {name: (part.unpack().flatten(1) > 0).sum(1).tolist() for name, part in codes.items()}
    total = {name: part.unit_count for name, part in codes.items()}
    values = partition.at(partition.centres)[:, :SHOWN_OUTPUTS].tolist()
    corners, starts = _placed(partition, partition.cells.points[partition.cells.corners]), partition.cells.starts
    classes, areas, depths = partition.classes.tolist(), partition.areas.tolist(), partition.depths.tolist()
    return [
        {
            "at": corners[starts[number] : starts[number + 1]],
            "class": classes[number],
            "area": float(f"{areas[number]:.3g}"),
            "depth": depths[number],
            "outputs": [float(f"{value:.4g}") for value in values[number]],
            "codes": [[name, above[name][number], total[name]] for name in above],
        }
        for number in range(partition.regions)
    ]


def _templates(partition: PlanePartition) -> dict | None:
    """Every cell's template as bytes about 128, and the value at the ends of the scale."""
    net = partition.frame.net
    shape = net.inputs.units[0]
    vector = len(partition.graph.values[partition.number].units) == 1
    pixels = int(np.prod(shape[-2:])) if is_image(shape) else 0
    if len(net.inputs.units) > 1 or not pixels or not vector or partition.regions * pixels > TEMPLATE_BYTES:
        return None
    rows = np.zeros((partition.regions, pixels), dtype=np.uint8)
    ends = np.ones(partition.regions)
    classes = partition.classes.numpy()
    for number in np.unique(classes).tolist():
        of = np.flatnonzero(classes == number)
        row = 0 if partition.values.shape[1] == 1 else number
        for chosen in np.array_split(of, -(-len(of) // AT_ONCE)):
            slopes = torch.as_tensor(partition.affine_map(chosen, outputs=[row]).slopes)[:, 0].numpy()
            maps = np.stack([shown(item).ravel() for item in slopes])
            ends[chosen] = np.abs(maps).max(1)
            rows[chosen] = np.round(128 + 127 * maps / np.maximum(ends[chosen], 1e-300)[:, None])
    data = base64.b64encode(rows.tobytes()).decode("ascii")
    return {"height": shape[-2], "width": shape[-1], "ends": [float(f"{end:.3g}") for end in ends], "data": data}
