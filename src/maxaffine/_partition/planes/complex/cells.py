"""A subdivision of a convex polygon into convex cells, in flat arrays.

A plane can have a million cells with four or five corners each. As objects with pointers they would take minutes to
walk through; as a few arrays, every step of a division is a handful of numpy calls over all cells at once. So a cell is
a run of half-edges, and edges and vertices are rows of tables, which neighboring cells share by number: what is done to
an edge is done for both of its cells, and no gap or overlap can open between them.

Cells have different numbers of corners, edges different numbers of cuts: rows of different lengths in flat arrays, each
given by its start and its length. A few functions are all the index arithmetic that this takes; with them a loop over
rows becomes one fancy index. Rows of a table are picked with ``take``: of two columns it takes a tenth of the time of a
fancy index.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

OUTSIDE = -1  # the cell across an edge of the whole polygon, and the operator of such an edge
SPOKE = -2  # the operator of an edge that is not a boundary, but was drawn so that a known point is a vertex


@dataclass(frozen=True, eq=False)
class Complex:
    """Vertices, edges and cells; neighboring cells share edges, so that there is neither a gap nor an overlap."""

    # A half-edge is one side of one cell. Those of cell f are ``starts[f] : starts[f + 1]``, counter-clockwise; one of
    # them, h, leads from vertex ``corners[h]`` to the next along edge ``sides[h]``. Three corners may lie on a line.
    points: np.ndarray  # (V, 2) coordinates of the vertices
    ends: np.ndarray  # (E, 2) vertices that an edge joins
    # (E,) number of the operator whose boundary the edge lies on; OUTSIDE on the rim of the polygon, SPOKE where it is
    # not a boundary and will be taken out again.
    operator: np.ndarray
    unit: np.ndarray  # (E,) flat number of the unit whose boundary it is
    # (E,) number of the longer edge that it is a piece of, where another complex borders on it; else -1.
    chain: np.ndarray
    starts: np.ndarray  # (F + 1,) where each cell's half-edges start
    corners: np.ndarray  # (H,) vertex at which each half-edge starts
    sides: np.ndarray  # (H,) edge of each half-edge

    @classmethod
    def polygon(cls, points: np.ndarray) -> Complex:
        """One cell with the given corners, counter-clockwise."""
        count = len(points)
        here = np.arange(count)
        outside = np.full(count, OUTSIDE)
        ends = np.array([here, (here + 1) % count]).T.copy()
        return cls(points, ends, outside, outside, outside, np.array([0, count]), here, here)

    @cached_property
    def counts(self) -> np.ndarray:
        """(F,) corners of each cell."""
        return self.starts[1:] - self.starts[:-1]

    @cached_property
    def used(self) -> np.ndarray:
        """(V,) which vertices are a corner of some cell."""
        used = np.zeros(len(self.points), dtype=bool)
        used[self.corners] = True
        return used

    @cached_property
    def cell_of(self) -> np.ndarray:
        """(H,) cell of each half-edge."""
        return owners(self.counts)

    @cached_property
    def following(self) -> np.ndarray:
        """(H,) the next half-edge around the same cell."""
        return ring(self.starts)

    @cached_property
    def forward(self) -> np.ndarray:
        """(H,) whether the half-edge runs along its edge from its first end to its second."""
        return self.ends[:, 0].take(self.sides) == self.corners

    @cached_property
    def edge_cells(self) -> np.ndarray:
        """(E, 2) the cells on the left and on the right of each edge; OUTSIDE beyond the rim."""
        # Cells run counter-clockwise, so a cell lies on the left of an edge that it runs along forward.
        cells = np.full((len(self.ends), 2), OUTSIDE)
        cells[self.sides, np.where(self.forward, 0, 1)] = self.cell_of
        return cells

    @cached_property
    def areas(self) -> np.ndarray:
        """(F,) area of each cell."""
        # About a corner of each cell: a small cell far from the origin keeps its digits.
        base = self.corners.take(self.starts[:-1]).take(self.cell_of)
        here = self.points.take(self.corners, 0) - self.points.take(base, 0)
        return np.add.reduceat(cross(here, here.take(self.following, 0)), self.starts[:-1]) / 2

    @cached_property
    def centers(self) -> np.ndarray:
        """(F, 2) the mean of each cell's corners: a point inside it."""
        return np.add.reduceat(self.points.take(self.corners, 0), self.starts[:-1], axis=0) / self.counts[:, None]

    def marks(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Operator, unit and chain of some edges."""
        return self.operator.take(edges), self.unit.take(edges), self.chain.take(edges)

    def cells(self, chosen: np.ndarray) -> tuple[Complex, np.ndarray, np.ndarray]:
        """The complex of some cells, and which vertices and edges of this one its own are."""
        counts = self.counts[chosen]
        places = spans(self.starts[chosen], counts)
        edges, sides = np.unique(self.sides[places], return_inverse=True)
        vertices, corners = np.unique(self.corners[places], return_inverse=True)
        number = np.empty(len(self.points), dtype=np.int64)
        number[vertices] = np.arange(len(vertices))
        ends, starts = number[self.ends[edges]], starts_of(counts)
        part = Complex(self.points[vertices], ends, *self.marks(edges), starts, corners, sides)
        return part, vertices, edges

    def compact(self) -> tuple[Complex, np.ndarray | slice]:
        """The complex without vertices that no cell has, and which those that it has are among all."""
        if self.used.all():
            return self, slice(None)
        part, vertices, _ = self.cells(np.arange(len(self.counts)))
        return part, vertices


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The area that pairs of plane vectors (..., 2) span; above 0 where b points to the left of a."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def keys_of(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) as complex numbers, which numpy sorts and compares as wholes."""
    return np.ascontiguousarray(points).view(np.complex128)[:, 0]


def lengths_of(vectors: np.ndarray) -> np.ndarray:
    """The lengths of plane vectors (n, 2)."""
    return np.abs(keys_of(vectors))  # a fifth of the time of hypot


def starts_of(counts: np.ndarray) -> np.ndarray:
    """Where each row starts when rows of these lengths follow one another, and where the last ends: (n + 1,)."""
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    counts.cumsum(out=starts[1:])
    return starts


def spans(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The places of all entries of rows at ``starts`` of lengths ``counts``, row after row."""
    ends = counts.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + (starts - ends + counts).repeat(counts)


def owners(counts: np.ndarray) -> np.ndarray:
    """The row of every entry."""
    return np.arange(len(counts)).repeat(counts)


def places(counts: np.ndarray) -> np.ndarray:
    """The place of every entry within its row."""
    return spans(np.zeros(len(counts), dtype=np.int64), counts)


def ring(starts: np.ndarray, step: int = 1) -> np.ndarray:
    """The entry after every entry of its row, of the last one the first; or the one before, where ``step`` is -1."""
    first, last = (starts[:-1], starts[1:] - 1)[::step]
    found = np.arange(step, starts[-1] + step)
    found[last] = first
    return found


def fresh(*keys: np.ndarray) -> np.ndarray:
    """Which entries of some lists differ from those before them; the first does."""
    found = np.empty(len(keys[0]), dtype=bool)
    found[:1] = True
    np.not_equal(keys[0][1:], keys[0][:-1], out=found[1:])
    for key in keys[1:]:
        found[1:] |= key[1:] != key[:-1]
    return found


def order_along(row: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The order of entries by row and, within a row, by how far along it they are, from 0 to 1."""
    # Most often the sum tells all of them apart, and to sort by one number takes a fraction of the time.
    key = row + at
    order = key.argsort(kind="stable")
    rows, keys = row.take(order), key.take(order)
    told = (keys[1:] > keys[:-1]).all() and (rows[1:] >= rows[:-1]).all()
    return order if told else np.lexsort((at, row))
