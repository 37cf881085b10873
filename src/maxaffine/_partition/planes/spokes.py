"""Where a partition starts: the polygon, cut so that every known point in it is a vertex.

Images have flat patches. At an image of such a patch all entries of a pooling window, and all units of a channel, are
equal, so that hundreds of boundaries pass through that one point of the plane; and where two images are flat in the
same place, through all of the line between them. Found by crossing chords whose ends are rounded, the point would be
a cluster of crossings. So it is a vertex from the start, and the values there are those of the image itself.

Its vertex needs edges: the lines through every two known points are drawn ("spokes"), on which ties of both lie. They
are not boundaries. Where one turns out to be, the division names it so; all others are taken out again at the end.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from math import isinf

import numpy as np
from torch import Tensor

from maxaffine._graph import Contest, Knots
from maxaffine._partition.planes.complex.cells import SPOKE, Complex, cross, keys_of, lengths_of
from maxaffine._partition.planes.complex.faces import dissolve
from maxaffine._partition.planes.divide import ROUNDING, divide_by_columns
from maxaffine._partition.planes.levels import Level, Rows, differences, finite_rows, largest

MANY = 6  # from this many known points on, lines join only some pairs of them
PARALLEL = 1e-6  # the sine of the angle below which two lines count as one


@dataclass(frozen=True, eq=False)
class Known:
    """Points of the plane at which the inputs are known exactly."""

    t: np.ndarray  # (k, 2) their coordinates
    inputs: tuple[Tensor, ...]  # per input of the network a batch of k
    axes: bool  # whether lines along both axes go through the first

    @cached_property
    def lines(self) -> np.ndarray:
        """(n, 2, 2) a point and a direction of each line that is drawn: through every two of the points."""
        t, count = self.t, len(self.t)
        pairs = list(itertools.combinations(range(count), 2))
        if count >= MANY:  # from the first to all, and around: two lines through every point
            pairs = [(a, b) for a, b in pairs if a == 0 or b == a + 1]
        lines = np.array([(t[a], t[b] - t[a]) for a, b in pairs] + [(t[0], axis) for axis in np.eye(2) if self.axes])
        lines = lines[np.hypot(*lines[:, 1].T) > 0]
        # A point is a vertex where two lines cross: one through which a single line passes gets another across it.
        return np.concatenate([lines, *(_across(point, lines) for point in t)])


def _across(point: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """A line at right angles to those through a point, where these are all the same one; else none."""
    length = np.hypot(*lines[:, 1].T)
    way = lines[:, 1] / length[:, None]
    way = way[np.abs(cross(way, point - lines[:, 0])) <= PARALLEL * length]
    alone = len(way) > 0 and bool((np.abs(cross(way, way[:1])) <= PARALLEL).all())
    return np.array([(point, (-way[0, 1], way[0, 0]))]) if alone else lines[:0]


def draw_spokes(corners: np.ndarray, known: Known, tolerance: float) -> tuple[Complex, np.ndarray, np.ndarray]:
    """Cut a polygon (n, 2) by lines so that known points are vertices: cells, those vertices, and which points."""
    cells = Complex.polygon(corners)
    point, direction = known.lines[:, 0], known.lines[:, 1]
    length = lengths_of(direction)
    away = cross((direction / np.where(length, length, 1)[:, None])[None], corners[:, None] - point)
    # The lines are zero sets of functions like any other: distances from them, which divide where they have both signs.
    away[np.abs(away) <= tolerance] = 0
    table = away[:, (away > 0).any(0) & (away < 0).any(0)]
    least, units = np.full(table.shape[1], tolerance), np.full(table.shape[1], SPOKE)
    cells, _ = divide_by_columns(cells, table, least, units, None, SPOKE, tolerance)
    gaps = np.hypot(*np.moveaxis(known.t[:, None] - cells.points, 2, 0))
    which = np.flatnonzero(gaps.min(1) <= tolerance)
    vertex = gaps[which].argmin(1)
    # A crossing of lines is rounded; the vertex is put on the known point itself. But the polygon stays what was asked
    # for, whose corners come first among the vertices.
    inner = vertex >= len(corners)
    points = cells.points.copy()
    points[vertex[inner]] = known.t[which[inner]]
    return replace(cells, points=points), vertex, which


def ties(levels: tuple[Level, ...], rows: Rows) -> bool:
    """Whether a unit is zero, or two entries that an operator compares are equal, at one of a few points."""
    # This only chooses the way: both lead to the same partition, the plain start sooner where nothing ties.
    for level in levels[:-1]:
        rows = level.run(rows)
        if _tie(level, rows):
            return True
    return False


def _tie(level: Level, rows: Rows) -> bool:
    """The same of the operator after one level."""
    boundaries = level.boundaries
    if not isinstance(boundaries, Contest | Knots):
        return any(bool((np.abs(gap) <= ROUNDING * size).any()) for gap, size in differences(level, rows))
    x = level.entries(rows).numpy()
    if not x.size:
        return False
    least = ROUNDING * float(np.abs(x).max())
    if isinf(least):
        least, x = ROUNDING * float(largest(x).max()), finite_rows(x)
    if isinstance(boundaries, Knots):
        return any(bool((np.abs(x - knot) <= least).any()) for knot in boundaries.knots)
    entries = boundaries.factor * x[:, level.windows]
    if entries.shape[2] < 2:
        return False
    first, second = np.partition(entries, (-2, -1), axis=2)[:, :, -2:].transpose(2, 0, 1)
    return bool((second - first <= least).any())


def drop_spokes(cells: Complex, corners: np.ndarray) -> tuple[Complex, np.ndarray | slice]:
    """Cells of a polygon (n, 2) without the spokes that no boundary lies on, and which of the vertices are left."""
    spoke = cells.operator == SPOKE
    if spoke.any():
        loose = np.zeros(len(cells.points), dtype=bool)
        loose[cells.ends[spoke]] = True
        # An edge that another block borders on keeps its vertices: the block on the other side may have them too.
        loose[cells.ends[cells.chain >= 0]] = False
        loose &= ~np.isin(keys_of(cells.points), keys_of(corners))
        cells, _ = dissolve(cells, spoke, loose)
    return cells.compact()
