"""The polygons that halfspaces leave of planes: many at once, each followed around from one of its edges.

Along an edge the next corner is where a margin runs out first, and what it belongs to is on the next edge. Where
several run out at once the polygon turns as far as any of them makes it. Every corner has the set of all margins that
are zero there, and all neighbors see the same set: a corner is known by it, not by its coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from maxaffine._partition.surfaces.germs import Germs, rates

CORNERS = 4096  # of one polygon; a walk that takes more goes around in circles
FLAT = 1e-9  # of a slope: a smaller part of it within a plane counts as none


@dataclass(frozen=True, eq=False)
class Polygons:
    """Corners of polygons, in order around each; each with the edge that leads to it from the one before."""

    row: np.ndarray  # (C,) polygon of each corner, increasing
    points: np.ndarray  # (C, 3)
    keys: np.ndarray  # (C, 2) of the corners: equal for the same corner of another polygon
    column: np.ndarray  # (C,) of a margin that is zero on the edge
    several: np.ndarray  # (C,) bool: others may be zero on it, too
    sides: np.ndarray  # (C,) bool: it lies on the box
    outward: np.ndarray  # (C, 3) normals of the edges within the planes
    unclosed: np.ndarray  # polygons that did not close, of which there are no corners


def polygons(germs: Germs, points: np.ndarray, normals: np.ndarray) -> Polygons:
    """The parts of planes in regions, counter-clockwise, from points (N, 3) on one of their edges on."""
    walk = _Walk(germs, points, normals)
    steps = []
    while len(walk.rows) and len(steps) < CORNERS:
        steps.append(walk.step())
    fields = [np.concatenate(parts) for parts in zip(*steps, strict=True)]
    kept = np.flatnonzero(~np.isin(fields[0], walk.rows))
    order = kept[np.argsort(fields[0][kept], kind="stable")]
    row, *rest = (item[order] for item in fields)
    return Polygons(row, *rest, unclosed=walk.rows)


class _Walk:
    """The polygons that are being followed, a row each; one that has closed is left out."""

    def __init__(self, germs: Germs, points: np.ndarray, normals: np.ndarray) -> None:
        self.germs = germs
        self.rows = np.arange(len(points))  # their numbers
        self.points, self.normals, self.base = points, normals, germs.keys.copy()
        self.margins, self.near = germs.margins.copy(), germs.near
        self.slopes = torch.from_numpy(germs.slopes)
        # What is zero all over a polygon bounds nothing, and belongs to all of its corners.
        row, column = np.nonzero(germs.margins <= germs.near)
        slopes = germs.slopes[:, row, column].T
        inner = slopes - (slopes * normals[row]).sum(1, keepdims=True) * normals[row]
        flat = np.linalg.norm(inner, axis=1) <= FLAT * np.linalg.norm(slopes, axis=1)
        np.add.at(self.base, row[flat], germs.change(row[flat], column[flat]))
        self.tied = np.bincount(row[flat], minlength=len(points)) > 0
        self.margins[row, column] = np.inf
        self.units = germs.margins.shape[1] - 6
        # What is zero at the corner, or on the edge, where a polygon is: of infinite margin, it is not run into again.
        self.zero = row[~flat], column[~flat]
        self.start = np.zeros(germs.margins.shape, dtype=bool)
        self.start[self.zero] = True
        self.column = self.start.argmax(1)

    def step(self) -> tuple[np.ndarray, ...]:
        """Go on to the next corners; fields as of :class:`Polygons`."""
        places = np.arange(len(self.rows))
        inward = self.slopes.numpy()[:, places, self.column].T
        along = np.cross(inward, self.normals)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        left = np.cross(self.normals, along)
        speed = rates(torch.from_numpy(along.T), self.slopes)
        rate = speed.numpy()
        # The margin that runs out first is the one of the largest rate beside it.
        reach = rate / self.margins
        first = reach.argmin(1)
        reach = -1 / reach[places, first]
        self.points = self.points + reach[:, None] * along
        self.margins[self.zero] = 0
        torch.from_numpy(self.margins).addcmul_(speed, torch.from_numpy(reach)[:, None])
        self.margins[places, first] = 0
        row, column = np.nonzero(self.margins <= self.near)
        self.margins[row, column] = np.inf
        # Of all that run out here, the one that the polygon turns the farthest at is on the next edge.
        turn = np.arctan2(-rate[row, column], (self.slopes.numpy()[:, row, column].T * left[row]).sum(1))
        turn[rate[row, column] >= 0] = -np.inf
        first = np.flatnonzero(np.diff(row, prepend=-1))  # of every polygon, which all have some
        following = column[np.lexsort((turn, row))[np.append(first[1:], len(row)) - 1]]
        keys = self.base + np.add.reduceat(self.germs.change(self.rows[row], column), first)
        # What was zero at the corner before and is here, is all along the edge between.
        before = np.zeros(self.margins.shape, dtype=bool)
        before[self.zero] = True
        both = before[row, column]
        several = self.tied | (np.bincount(row[both], minlength=len(places)) > 1)
        sides = np.bincount(row[both], column[both] >= self.units, len(places)) > 0
        found = (self.rows, self.points, keys, self.column, several, sides, -left)
        self.zero, self.column = (row, column), following
        self._keep(~self.start[self.rows, following])  # of others the walk is back on the edge that it came from
        return found

    def _keep(self, kept: np.ndarray) -> None:
        """Leave out polygons."""
        if kept.all():
            return
        row, column = self.zero
        stays, rows = kept[row], np.flatnonzero(kept)
        self.zero = (np.cumsum(kept) - 1)[row[stays]], column[stays]
        for name in ("rows", "points", "normals", "base", "margins", "near", "tied", "column"):
            setattr(self, name, getattr(self, name)[rows])
        self.slopes = self.slopes.index_select(1, torch.from_numpy(rows))
