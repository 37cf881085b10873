"""A subdivision of a convex polygon into convex cells, in flat arrays.

A plane can have a million cells with four or five corners each. As objects with pointers they would take minutes to
walk through; as a few arrays, every step of a division is a handful of numpy calls over all cells at once. So a cell is
a run of half-edges, and edges and vertices are rows of tables, which neighboring cells share by number: what is done to
an edge is done for both of its cells, and no gap or overlap can open between them.

Cells have different numbers of corners, edges different numbers of cuts: rows of different lengths in flat arrays, each
given by its start and its length. Four functions are all the index arithmetic that this takes; with them a loop over
rows becomes one fancy index.
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
        ends = np.stack([here, np.roll(here, -1)], 1)
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
        following = np.arange(1, len(self.corners) + 1)
        following[self.starts[1:] - 1] = self.starts[:-1]
        return following

    @cached_property
    def forward(self) -> np.ndarray:
        """(H,) whether the half-edge runs along its edge from its first end to its second."""
        return self.ends[self.sides, 0] == self.corners

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
        base = np.repeat(self.points[self.corners[self.starts[:-1]]], self.counts, axis=0)
        here = self.points[self.corners] - base
        return np.add.reduceat(cross(here, here[self.following]), self.starts[:-1]) / 2

    @cached_property
    def centers(self) -> np.ndarray:
        """(F, 2) the mean of each cell's corners: a point inside it."""
        return np.add.reduceat(self.points[self.corners], self.starts[:-1], axis=0) / self.counts[:, None]

    def marks(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Operator, unit and chain of some edges."""
        return self.operator[edges], self.unit[edges], self.chain[edges]

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

    def compact(self) -> tuple[Complex, np.ndarray]:
        """The complex without vertices that no cell has, and the places of the others among all."""
        if self.used.all():
            return self, np.arange(len(self.points))
        part, vertices, _ = self.cells(np.arange(len(self.counts)))
        return part, vertices


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The area that pairs of plane vectors (..., 2) span; above 0 where b points to the left of a."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def keys_of(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) as complex numbers, which numpy sorts and compares as wholes."""
    return points[:, 0] + 1j * points[:, 1]


def starts_of(counts: np.ndarray) -> np.ndarray:
    """Where each row starts when rows of these lengths follow one another, and where the last ends: (n + 1,)."""
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def spans(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The places of all entries of rows at ``starts`` of lengths ``counts``, row after row."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)


def owners(counts: np.ndarray) -> np.ndarray:
    """The row of every entry."""
    return np.repeat(np.arange(len(counts)), counts)


def places(counts: np.ndarray) -> np.ndarray:
    """The place of every entry within its row."""
    return spans(np.zeros(len(counts), dtype=np.int64), counts)
