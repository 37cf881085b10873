"""Polygons joined into a mesh: corners that are the same become one vertex, and what the mesh is follows by counting.

Corners are the same where the same units are zero and the others on the same pieces: no distance is compared, so that a
hole could not be closed by chance, nor two sheets that come close be sewn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maxaffine._partition.space.polytope import scipy
from maxaffine._partition.surfaces.walk import CURE, Part
from maxaffine.errors import PartitionError


@dataclass(frozen=True, eq=False)
class Mesh:
    """Polygons over shared vertices; ``corners`` and ``sides`` polygon by polygon."""

    vertices: np.ndarray  # (V, 3)
    corners: np.ndarray  # (C,) vertices, counter-clockwise where the output grows towards the eye
    starts: np.ndarray  # (F + 1,) where each polygon's corners start
    sides: np.ndarray  # (C,) bool: the edge that leads to the corner lies on the box
    normals: np.ndarray  # (F, 3)

    @cached_property
    def counts(self) -> np.ndarray:
        """(F,) corners of every polygon."""
        return np.diff(self.starts)

    @cached_property
    def owner(self) -> np.ndarray:
        """(C,) polygon of every corner."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def ends(self) -> np.ndarray:
        """(C, 2) vertices at the ends of the edge that leads to each corner."""
        before = np.arange(-1, len(self.corners) - 1)
        before[self.starts[:-1]] = self.starts[1:] - 1
        return np.stack([self.corners[before], self.corners], 1)

    @cached_property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """(C,) number of the edge that leads to each corner, and (E,) how many polygons each edge has."""
        low, high = self.ends.min(1), self.ends.max(1)
        _, number, count = np.unique(low * len(self.vertices) + high, return_inverse=True, return_counts=True)
        return number, count

    @cached_property
    def watertight(self) -> bool:
        """Whether every edge belongs to exactly two polygons, which go along it in opposite ways."""
        number, count = self.edges
        way = np.bincount(number, np.sign(self.ends[:, 1] - self.ends[:, 0]), len(count))
        return len(count) > 0 and bool((count == 2).all() and (way == 0).all())

    def check(self) -> None:
        """Refuse a mesh in which an edge off the box belongs to one polygon alone."""
        number, count = self.edges
        alone = np.flatnonzero((count[number] == 1) & ~self.sides)
        if len(alone):
            place = tuple(self.vertices[self.ends[alone[0]]].mean(0).tolist())
            raise PartitionError(f"{len(alone)} edges of the level set belong to one polygon alone", place, cure=CURE)

    @cached_property
    def triangles(self) -> np.ndarray:
        """(T, 3) vertices: every polygon as a fan around its first corner."""
        fan = np.arange(len(self.corners)) - self.starts[self.owner] >= 2
        last = self.ends[fan]
        return np.column_stack([self.corners[self.starts[self.owner[fan]]], last])

    @cached_property
    def areas(self) -> np.ndarray:
        """(F,) of the polygons."""
        a, b, c = (self.vertices[self.triangles[:, k]] for k in range(3))
        crossed = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        return np.bincount(np.repeat(np.arange(len(self.counts)), self.counts - 2), crossed, len(self.counts))

    @cached_property
    def labels(self) -> np.ndarray:
        """(F,) the component that every polygon is of: those that share edges."""
        number, count = self.edges
        size = len(self.counts) + len(count)  # polygons, and edges after them
        ends = self.owner, len(self.counts) + number
        graph = scipy("sparse").coo_array((np.ones(len(number)), ends), shape=(size, size))
        joined = scipy("sparse.csgraph").connected_components(graph, directed=False)[1]
        return np.unique(joined[: len(self.counts)], return_inverse=True)[1]


def join(parts: Sequence[Part]) -> Mesh:
    """The mesh of all polygons."""
    if not parts:
        return Mesh(
            np.zeros((0, 3)), np.zeros(0, dtype=int), np.zeros(1, dtype=int), np.zeros(0, dtype=bool), np.zeros((0, 3))
        )
    points, keys, counts, sides, normals = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("points", "keys", "counts", "sides", "normals")
    )
    _, first, corners = np.unique(keys[:, 0], return_index=True, return_inverse=True)
    if (keys[first[corners], 1] != keys[:, 1]).any():
        raise PartitionError("the keys of two corners agree by chance", cure=CURE)
    return Mesh(points[first], corners, np.concatenate([[0], np.cumsum(counts)]), sides, normals)
