"""A subdivision of a convex polygon into convex cells, in flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maxaffine._partition.planes.complex.ragged import owners, spans, starts_of

OUTSIDE = -1  # the cell across an edge of the whole polygon, and the operator of such an edge
SPOKE = -2  # the operator of an edge that is not a boundary, but was drawn so that a known point is a vertex


@dataclass(frozen=True, eq=False)
class Complex:
    """Vertices, edges and cells; neighboring cells share edges, so that there is neither a gap nor an overlap.

    A half-edge is one side of one cell. Those of cell f are ``starts[f] : starts[f + 1]``, counter-clockwise; half-edge
    h leads from vertex ``corners[h]`` to the next along edge ``sides[h]``. Three corners of a cell may lie on a line.

    Attributes:
        points: (V, 2) coordinates of the vertices.
        ends: (E, 2) vertices that an edge joins.
        operator: (E,) number of the operator whose boundary the edge lies on; OUTSIDE on the rim of the polygon, SPOKE
            where it is not a boundary and will be taken out again.
        unit: (E,) flat number of the unit whose boundary it is.
        chain: (E,) name of the longer edge that it is a piece of, where another complex borders on it; else -1.
        starts: (F + 1,) where each cell's half-edges start.
        corners: (H,) vertex at which each half-edge starts.
        sides: (H,) edge of each half-edge.
    """

    points: np.ndarray
    ends: np.ndarray
    operator: np.ndarray
    unit: np.ndarray
    chain: np.ndarray
    starts: np.ndarray
    corners: np.ndarray
    sides: np.ndarray

    @classmethod
    def polygon(cls, points: np.ndarray) -> Complex:
        """One cell with the given corners, counter-clockwise."""
        count = len(points)
        here = np.arange(count)
        outside = np.full(count, OUTSIDE)
        ends = np.stack([here, np.roll(here, -1)], 1)
        return cls(points, ends, outside, outside, outside, np.array([0, count]), here, here)

    @property
    def counts(self) -> np.ndarray:
        """(F,) corners of each cell."""
        return np.diff(self.starts)

    @property
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
        cells = np.full((len(self.ends), 2), OUTSIDE)
        cells[self.sides, np.where(self.forward, 0, 1)] = self.cell_of
        return cells

    @cached_property
    def areas(self) -> np.ndarray:
        """(F,) area of each cell."""
        # About a corner of each cell: a small cell far from the origin keeps its digits.
        base = np.repeat(self.points[self.corners[self.starts[:-1]]], self.counts, axis=0)
        here = self.points[self.corners] - base
        there = here[self.following]
        return np.add.reduceat(cross(here, there), self.starts[:-1]) / 2

    @cached_property
    def centers(self) -> np.ndarray:
        """(F, 2) the mean of each cell's corners: a point inside it."""
        return np.add.reduceat(self.points[self.corners], self.starts[:-1], axis=0) / self.counts[:, None]

    def cells(self, chosen: np.ndarray) -> tuple[Complex, np.ndarray, np.ndarray]:
        """The complex of some cells, and which vertices and edges of this one its own are."""
        counts = self.counts[chosen]
        places = spans(self.starts[chosen], counts)
        edges, sides = np.unique(self.sides[places], return_inverse=True)
        vertices, corners = np.unique(self.corners[places], return_inverse=True)
        renumbered = np.empty(len(self.points), dtype=np.int64)
        renumbered[vertices] = np.arange(len(vertices))
        part = Complex(
            self.points[vertices],
            renumbered[self.ends[edges]],
            self.operator[edges],
            self.unit[edges],
            self.chain[edges],
            starts_of(counts),
            corners,
            sides,
        )
        return part, vertices, edges


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The area that pairs of plane vectors (..., 2) span."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
