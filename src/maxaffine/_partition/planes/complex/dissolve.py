"""Edges taken out again, and the vertices that are then corners of nothing.

Some edges are drawn to find others: spokes through a point where much ties, and whole chords on which two entries of a
maximum are equal, though a third wins on a part of them. Taking an edge out is the reverse of a division: the walk
around the united cell goes from edge to edge as before, and passes over what is dropped.
"""

from __future__ import annotations

import numpy as np

from maxaffine._partition.planes.complex.cells import Complex, cross
from maxaffine._partition.planes.complex.faces import cycles
from maxaffine._partition.planes.complex.ragged import owners, places, starts_of


def unite(cells: Complex, dropped: np.ndarray, loose: np.ndarray, tolerance: float) -> Complex:
    """Unite cells as :func:`dissolve` does, but for those whose union would have a dent beyond the tolerance."""
    done, member = _dissolve(cells, dropped, loose)
    bent = np.unique(done.cell_of[bends(done) > 4 * tolerance]) if dropped.any() else ()
    if not len(bent):
        return done
    # All cells of a union whose boundary turns inwards stay apart; they are those reached from one of them.
    group = groups(cells.edge_cells[dropped], len(cells.counts))
    apart = np.isin(group[cells.edge_cells[:, 0]], group[member[bent]])
    return dissolve(cells, dropped & ~apart, loose)


def groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """The least number among all that pairs (n, 2) of numbers below a count join to each: (count,)."""
    # A label is a number of the same group, at most one's own. Where a pair disagrees, the label of both labels sinks
    # to the lower one, and following labels of labels halves the way to the least.
    label = np.arange(count)
    while (label[pairs[:, 0]] != label[pairs[:, 1]]).any():
        low = label[pairs].min(1)
        np.minimum.at(label, label[pairs[:, 0]], low)
        np.minimum.at(label, label[pairs[:, 1]], low)
        label = label[label]
    while not np.array_equal(further := label[label], label):
        label = further
    return label


def bends(cells: Complex) -> np.ndarray:
    """(H,) how far each half-edge's first corner lies left of the line between its neighbors: above 0 is a dent."""
    here = cells.points[cells.corners]
    there, last = here[cells.following], np.empty_like(here)
    last[cells.following] = here
    across = there - last
    length = np.maximum(np.hypot(*across.T), np.finfo(float).tiny)
    return cross(across, here - last) / length


def dissolve(cells: Complex, dropped: np.ndarray, loose: np.ndarray) -> Complex:
    """Unite cells across the dropped edges (E,), to convex unions; loose vertices (V,) with two edges left go too."""
    return _dissolve(cells, dropped, loose)[0]


def _dissolve(cells: Complex, dropped: np.ndarray, loose: np.ndarray) -> tuple[Complex, np.ndarray]:
    """The complex without the edges, and a cell before among those that each of its cells unites."""
    if not dropped.any() and not (np.bincount(cells.ends.ravel(), minlength=len(loose))[loose] == 2).any():
        return cells, np.arange(len(cells.counts))
    twin = np.full((len(cells.ends), 2), -1)
    twin[cells.sides, cells.forward.astype(np.int64)] = np.arange(len(cells.sides))
    other = twin[cells.sides, 1 - cells.forward.astype(np.int64)]
    # The half-edge after one that stays: where it is dropped, the walk goes on in the cell beyond, after its twin. This
    # turns around one vertex, and ends at the latest at the edge along which the walk came.
    kept = np.flatnonzero(~dropped[cells.sides])
    following = cells.following[kept]
    while (passing := np.flatnonzero(dropped[cells.sides[following]])).size:
        following[passing] = cells.following[other[following[passing]]]
    number = np.full(len(cells.sides), -1)
    number[kept] = np.arange(len(kept))
    starts, order = cycles(number[following])
    half = kept[order]
    # A loose vertex with two edges left is a corner of nothing: its edges become one.
    degree = np.bincount(cells.ends[np.unique(cells.sides[half])].ravel(), minlength=len(cells.points))
    stays = (degree != 2) | ~loose
    half, starts = _from_a_corner(half, starts, stays[cells.corners[half]])
    corner = cells.corners[half]
    runs = np.flatnonzero(stays[corner])
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
    found = Complex(cells.points, ends, cells.operator[used], cells.unit[used], cells.chain[used], starts, begin, sides)
    return found, cells.cell_of[half[runs[starts[:-1]]]]


def _from_a_corner(half: np.ndarray, starts: np.ndarray, stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn every cycle so that it starts at a vertex that stays."""
    counts = np.diff(starts)
    cell, place = owners(counts), places(counts)
    shift = np.minimum.reduceat(np.where(stays, place, len(half)), starts[:-1])
    turned = (place + shift[cell]) % counts[cell]
    return half[starts[cell] + turned], starts_of(counts)
