"""Local complexity and density of regions on a partitioned plane, exactly.

With every cell known, nothing has to be sampled: the cells that meet a neighborhood are found by geometry, and a unit
changes within it where their codes are not all the same.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from maxaffine._graph import as_rows
from maxaffine._partition.measures.complexity import LocalComplexity
from maxaffine._partition.planes.complex import OUTSIDE, cross
from maxaffine._partition.planes.partition import PlanePartition
from maxaffine.errors import BadInput

SHAPES = ("disc", "square")


def plane_complexity(found: PlanePartition, t: Any, radius: float, *, shape: str = "disc") -> LocalComplexity:
    """Count the units whose boundary crosses a neighborhood within a partitioned plane, exactly.

    A unit counts when its code is not the same in all cells that have interior points in common with
    {s : |s - t| < radius}, where |.| is the Euclidean norm (disc) or the largest coordinate (square). Cells are convex
    polygons and codes are constant on them, so nothing is sampled. Units whose boundaries coincide all count.

    Args:
        found: The partition; it must contain the neighborhoods.
        t: (N, 2) centers in the plane's coordinates; for inputs see ``found.frame.coordinates``.
        radius: Neighborhood radius, in the plane's coordinates.
        shape: ``"disc"`` or ``"square"`` (of side 2 radius).

    Returns:
        The counts, by operator; its ``regions`` are the cells that meet each neighborhood.

    Raises:
        BadInput: For a neighborhood that leaves the polygon, a radius that is not positive, or an unknown shape.

    Example:
        >>> import torch
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> found = ma.partition.plane(net, origin=torch.zeros(1, 2), basis=torch.eye(2))
        >>> ma.partition.plane_complexity(found, torch.tensor([[0.1, 0.1], [0.1, 0.5], [0.5, 0.5]]), 0.2).total
        tensor([2, 1, 0])

    Source: the measure of Humayun, Balestriero and Baraniuk, "Deep Networks Always Grok and Here is Why" (ICML 2024).
    """
    centers = found.checked(t)
    if not radius > 0:
        raise BadInput(f"radius: expected a positive number, got {radius}")
    if shape not in SHAPES:
        raise BadInput(f"shape: expected one of {SHAPES}, got {shape!r}")
    if not found.complete:
        raise BadInput("found: the partition was interrupted; finish it first")
    records = [record for step in found.graph.steps for record in step.records if record.name in found.operators]
    units = {record.name: prod(record.units) for record in records}
    counts: dict[str, list[int]] = {name: [] for name in units}
    cells = []
    for center in centers.numpy():
        _check_inside(found, center, radius, shape)
        meeting = meeting_cells(found, center, radius, shape)
        cells.append(len(meeting))
        codes = found.codes(meeting)
        for name in units:
            rows = as_rows(codes[name].unpack())
            counts[name].append(int((rows != rows[:1]).any(0).sum()))
    tensors = {name: torch.tensor(numbers) for name, numbers in counts.items()}
    return LocalComplexity(tensors, units, radius, f"plane, {shape}", torch.tensor(cells))


def meeting_cells(found: PlanePartition, center: np.ndarray, radius: float, shape: str) -> np.ndarray:
    """Numbers of the cells with interior points in common with a neighborhood of a point (2,)."""
    # Most cells are far away, which their bounding boxes show.
    cells = found.cells
    start = cells.points[cells.corners] - center
    first = cells.starts[:-1]
    low, high = np.minimum.reduceat(start, first), np.maximum.reduceat(start, first)
    near = np.flatnonzero(((low < radius) & (high > -radius)).all(1))
    part, vertices, _ = cells.cells(near)
    a = cells.points[vertices][part.corners] - center
    b = a[part.following]
    # A convex cell meets the neighborhood where it holds its center, or one of its sides comes near enough.
    holds = np.minimum.reduceat(cross(b - a, -a), part.starts[:-1]) > 0
    depth = _segment_distance(a, b, shape)
    meets = holds | (np.minimum.reduceat(depth, part.starts[:-1]) < radius - found.tolerance)
    return near[meets]


def _segment_distance(a: np.ndarray, b: np.ndarray, shape: str) -> np.ndarray:
    """How near segments come to the origin, in the norm of the neighborhood."""
    along = b - a
    if shape == "disc":
        at = -(a * along).sum(1) / np.maximum((along**2).sum(1), np.finfo(float).tiny)
        return np.hypot(*(a + np.clip(at, 0, 1)[:, None] * along).T)
    # max(|x|, |y|) is convex along a segment: its minimum is at an end or where two of x, -x, y, -y are equal.
    places = [np.zeros(len(a)), np.ones(len(a))]
    with np.errstate(divide="ignore", invalid="ignore"):
        for weight in np.array([[1, 1], [1, -1], [1, 0], [0, 1]]):
            at = -(a @ weight) / (along @ weight)
            places.append(np.clip(np.nan_to_num(at, nan=0.0, posinf=1.0, neginf=0.0), 0, 1))
    return np.min([np.abs(a + at[:, None] * along).max(1) for at in places], axis=0)


def _check_inside(found: PlanePartition, center: np.ndarray, radius: float, shape: str) -> None:
    """Refuse a neighborhood that leaves the polygon."""
    # It reaches as far towards a side as the radius says in the direction at right angles to it, in its own norm.
    cells = found.cells
    rim = np.flatnonzero(cells.operator[cells.sides] == OUTSIDE)
    a = cells.points[cells.corners[rim]] - center
    b = cells.points[cells.corners[cells.following[rim]]] - center
    along = b - a
    length = np.maximum(np.hypot(*along.T), np.finfo(float).tiny)
    inside = cross(along, -a) / length  # how far the center lies inside each side of the polygon
    reach = radius if shape == "disc" else radius * np.abs(along).sum(1) / length
    if (inside < reach - found.tolerance).any():
        place = tuple(round(value, 6) for value in center.tolist())
        raise BadInput(f"t: the neighborhood of {place} leaves the polygon; choose a larger extent or a smaller radius")
