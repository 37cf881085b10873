"""Edges taken out again, and the vertices that are then corners of nothing."""

from __future__ import annotations

import numpy as np

from maxaffine.partition.planes.complex.cells import Complex
from maxaffine.partition.planes.complex.faces import cycles
from maxaffine.partition.planes.complex.ragged import owners, places, starts_of


def dissolve(cells: Complex, dropped: np.ndarray, first: int) -> Complex:
    """Unite cells across edges.

    Args:
        cells: The complex.
        dropped: (E,) bool, the edges between cells that become one; what they unite must be convex.
        first: New vertices, counted from this one on, go where only two edges are left at them, whether or not any
            edge was dropped; no vertex is renumbered.

    Returns:
        The complex without them.
    """
    if not dropped.any() and not (np.bincount(cells.ends.ravel())[first:] == 2).any():
        return cells
    twin = np.full((len(cells.ends), 2), -1)
    twin[cells.sides, cells.forward.astype(np.int64)] = np.arange(len(cells.sides))
    other = twin[cells.sides, 1 - cells.forward.astype(np.int64)]
    kept = np.flatnonzero(~dropped[cells.sides])
    following = cells.following[kept]
    while (passing := np.flatnonzero(dropped[cells.sides[following]])).size:
        following[passing] = cells.following[other[following[passing]]]
    number = np.full(len(cells.sides), -1)
    number[kept] = np.arange(len(kept))
    starts, order = cycles(number[following])
    half = kept[order]
    degree = np.bincount(cells.ends[np.unique(cells.sides[half])].ravel(), minlength=len(cells.points))
    corner = cells.corners[half]
    stays = (degree[corner] != 2) | (corner < first)
    half, starts = _from_a_corner(half, starts, stays)
    corner = cells.corners[half]
    stays = (degree[corner] != 2) | (corner < first)
    runs = np.flatnonzero(stays)
    # The pieces of an edge are the same from both sides: the least of them names the whole.
    edge = np.minimum.reduceat(cells.sides[half], runs)
    begin = corner[runs]
    starts = np.searchsorted(runs, starts)
    forward = cells.forward[half[runs]]
    after = np.arange(1, len(runs) + 1)
    after[starts[1:] - 1] = starts[:-1]
    finish = begin[after]
    used, sides = np.unique(edge, return_inverse=True)
    ends = np.empty((len(used), 2), dtype=np.int64)
    ends[sides, 0], ends[sides, 1] = np.where(forward, begin, finish), np.where(forward, finish, begin)
    return Complex(cells.points, ends, cells.operator[used], cells.unit[used], cells.chain[used], starts, begin, sides)


def _from_a_corner(half: np.ndarray, starts: np.ndarray, stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn every cycle so that it starts at a vertex that stays."""
    counts = np.diff(starts)
    cell, place = owners(counts), places(counts)
    shift = np.minimum.reduceat(np.where(stays, place, len(half)), starts[:-1])
    turned = (place + shift[cell]) % counts[cell]
    return half[starts[cell] + turned], starts_of(counts)
