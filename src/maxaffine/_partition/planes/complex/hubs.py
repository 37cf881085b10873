"""Points inside a cell through which many chords pass: each is made a vertex before anything is divided there.

Where hundreds of zero sets pass through one point, their chords, whose ends are rounded, cross in a cluster of points
around it. So the point is fitted to the chords, and two edges that cross there ("spokes", not boundaries, taken out
again in the end) are drawn through its cell. In the next round every chord starts at that one vertex, where its
function is zero, and none of them cross.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.planes.complex.cells import Complex, cross
from maxaffine._partition.planes.complex.chords import Chords, Crossings, close_along
from maxaffine._partition.planes.complex.dissolve import groups

FEW = 4  # chords through one point that are left to the order of rounds: fewer than this
SHARP = 1e3  # crossings known worse than this many tolerances say nothing about a common point
AT_ONCE = 64
ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Hub:
    """A common point of chords."""

    cell: int  # the cell that it lies in
    point: np.ndarray  # where it lies
    directions: np.ndarray  # (2, 2) of two of the chords, as far from parallel as any
    functions: np.ndarray  # those whose chords pass through it


def find_hubs(cells: Complex, chords: Chords, found: Crossings, tolerance: float) -> list[Hub]:
    """The points through which at least a few chords pass, those with the most first, no two of them close together."""
    found = found.subset(found.reach <= SHARP * tolerance)
    start = cells.points[cells.corners[chords.start]]
    along = cells.points[cells.corners[chords.end]] - start
    length = np.hypot(*along.T)
    # Crossings next to one another along a chord, closer than they are known, are one point. A group of them has as
    # many chords as different ones cross in it.
    entry, near = close_along(found, length)
    place = entry % len(found.first) if len(found.first) else entry
    group = groups(np.stack([place[:-1], place[1:]], 1)[near], len(found.first))
    keys = np.unique(np.concatenate([group, group]) * len(length) + np.concatenate([found.first, found.second]))
    label, count = np.unique(keys // max(1, len(length)), return_counts=True)
    hubs: list[Hub] = []
    for number in label[count >= FEW][np.argsort(-count[count >= FEW], kind="stable")][:AT_ONCE]:
        own = np.flatnonzero(group == number)
        cell = int(cells.cell_of[chords.start[found.first[own[0]]]])
        inside = cells.cell_of[chords.start] == cell
        direction = along[inside] / length[inside, None]
        crossing = start[found.first[own]] + found.on_first[own, None] * along[found.first[own]]
        # The median of the crossings is near enough to start from; the fit then looks at all chords of the cell, also
        # those that crossed none of the others here.
        point = _fit(np.median(crossing, axis=0), start[inside], direction, tolerance)
        through = np.abs(cross(direction, point - start[inside])) <= tolerance
        if through.sum() < FEW or not _clear(cells, cell, point, tolerance):
            continue
        if any(np.hypot(*(hub.point - point)) <= SHARP * tolerance for hub in hubs):
            continue
        members = np.zeros(len(length), dtype=bool)
        members[np.flatnonzero(inside)[through]] = True
        # The spokes run along the longest chord, whose direction is known best, and the one most across it.
        ways = direction[through]
        one = ways[length[members].argmax()]
        other = ways[np.abs(cross(ways, one)).argmax()]
        hubs.append(Hub(cell, point, np.stack([one, other]), chords.functions_of(members)))
    return hubs


def _fit(point: np.ndarray, start: np.ndarray, direction: np.ndarray, tolerance: float) -> np.ndarray:
    """The point from which lines lie least far, by sums of distances: lines known badly do not move it."""
    # Least squares, weighted anew in each round by one over the distance, has the least sum of distances as its limit.
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1)
    for _ in range(ROUNDS):
        away = ((point - start) * normal).sum(1)
        near = np.abs(away) <= SHARP * tolerance
        weight = 1 / np.maximum(np.abs(away[near]), 1e-5 * tolerance)
        matrix = (normal[near] * weight[:, None]).T @ normal[near]
        if np.linalg.det(matrix) <= 0:  # all that are near are parallel
            break
        point = point - np.linalg.solve(matrix, normal[near].T @ (weight * away[near]))
    return point


def _clear(cells: Complex, cell: int, point: np.ndarray, tolerance: float) -> bool:
    """Whether a point lies inside a cell, away from its edges: on them a chord ends at a cut, which is a vertex."""
    corners = cells.points[cells.corners[cells.starts[cell] : cells.starts[cell + 1]]]
    step = np.roll(corners, -1, axis=0) - corners
    return bool((cross(step, point - corners) > SHARP * tolerance * np.hypot(*step.T)).all())
