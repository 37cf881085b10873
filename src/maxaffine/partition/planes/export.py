"""A partition of a plane in other programs' formats."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from maxaffine.errors import MaxAffineError
from maxaffine.network import Task

if TYPE_CHECKING:
    from maxaffine.partition.planes.partition import PlanePartition


def as_arrays(partition: PlanePartition) -> dict[str, np.ndarray]:
    """See :meth:`PlanePartition.to_numpy`."""
    cells = partition.cells
    found = {
        "vertices": cells.points,
        "edges": cells.ends,
        "edge_operators": cells.operator,
        "edge_units": cells.unit,
        "edge_cells": cells.edge_cells,
        "cell_starts": cells.starts,
        "cell_corners": cells.corners,
        "cell_edges": cells.sides,
        "areas": cells.areas,
        "depths": partition.depths.numpy(),
        "levels": partition.levels,
        "operators": np.array(partition.operators, dtype=np.str_),
        "tolerance": np.array(partition.tolerance),
    }
    if partition.kept_values is not None:
        found["values"] = partition.kept_values
    if partition.frame.anchors is not None:
        found["anchors"] = partition.frame.anchors.numpy()
    return found


def as_geojson(partition: PlanePartition) -> dict[str, Any]:
    """See :meth:`PlanePartition.to_geojson`."""
    cells, names = partition.cells, (*partition.operators, None)
    answers, areas, depths = answered(partition), cells.areas.tolist(), partition.depths.tolist()
    rings = np.split(cells.points[cells.corners], cells.starts[1:-1])
    features = []
    for number, ring in enumerate(rings):
        properties = {
            "cell": number,
            **answers[number],
            "area": areas[number],
            "cut_by": names[depths[number]],
        }
        outline = [*ring.tolist(), ring[0].tolist()]
        geometry = {"type": "Polygon", "coordinates": [outline]}
        features.append({"type": "Feature", "id": number, "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


def answered(partition: PlanePartition) -> list[dict[str, Any]]:
    """What every cell answers, by its kind: a class, or the value or values at its center."""
    if partition.task is Task.CLASSES:
        return [{"class": number} for number in partition.classes.tolist()]
    rows = partition.at(partition.centers).tolist()
    return [{"value": row[0]} if len(row) == 1 else {"values": row} for row in rows]


def as_networkx(partition: PlanePartition) -> Any:
    """See :meth:`PlanePartition.to_networkx`."""
    if importlib.util.find_spec("networkx") is None:
        raise MaxAffineError("to_networkx needs networkx, which is not installed; run pip install networkx")
    networkx = importlib.import_module("networkx")
    graph = networkx.Graph()
    for number, (area, answer) in enumerate(zip(partition.areas.tolist(), answered(partition), strict=True)):
        graph.add_node(number, area=area, **answer)
    cells = partition.cells
    inner = np.flatnonzero((cells.edge_cells >= 0).all(1))
    lengths = np.hypot(*(cells.points[cells.ends[inner, 1]] - cells.points[cells.ends[inner, 0]]).T)
    rows = zip(cells.edge_cells[inner].tolist(), cells.operator[inner], cells.unit[inner], lengths, strict=True)
    for (a, b), operator, unit, length in rows:
        if graph.has_edge(a, b):
            graph.edges[a, b]["length"] += float(length)
        else:
            graph.add_edge(a, b, operator=partition.operators[operator], unit=int(unit), length=float(length))
    return graph
