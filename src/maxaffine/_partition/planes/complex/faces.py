"""Second half of a round: the cells that chords divide are traced anew, and those between which edges are taken out.

A division of one cell by many crossing chords has no simple formula, but a simple rule: walk along half-edges, and at
every vertex turn left as far as possible; each closed walk is a cell. "The next half-edge" is one array, so all cells
of all divisions are the cycles of one permutation, which doubling finds in as many steps as the longest has binary
digits.

Some edges are drawn to find others: spokes through a point where much ties, and whole chords on which two entries of a
maximum are equal, though a third wins on a part of them. Taking an edge out is the reverse of a division: the walk
around the united cell goes from edge to edge as before, and passes over what is dropped.
"""

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.planes.complex.cells import (
    Complex,
    cross,
    fresh,
    lengths_of,
    owners,
    places,
    ring,
    starts_of,
)
from maxaffine._partition.planes.complex.chords import TINY, Chords, Crossings

BITS = 31  # of a number of half-edges


@dataclass(frozen=True, eq=False)
class Chains:
    """Chords as chains of edges from crossing to crossing."""

    starts: np.ndarray  # (c + 1,) where each chord's edges start
    ends: np.ndarray  # (edges, 2) vertices
    # (x,) for every crossing, the edge of the first chord that ends there (the next one starts there).
    before_first: np.ndarray
    before_second: np.ndarray  # the same of the second chord
    vertex: np.ndarray  # (x,) the vertex of each crossing


def chain(cells: Complex, chords: Chords, found: Crossings) -> Chains:
    """Order the crossings along the chords; they become vertices after those of the complex."""
    count = len(found.first)
    vertex = len(cells.points) + np.arange(count)
    pieces = np.bincount(found.chord, minlength=len(chords.start)) + 1
    starts = starts_of(pieces)
    ends = np.empty((int(starts[-1]), 2), dtype=np.int64)
    ends[starts[:-1], 0] = cells.corners.take(chords.start)
    ends[starts[1:] - 1, 1] = cells.corners.take(chords.end)
    before = np.empty(2 * count, dtype=np.int64)
    # The i-th crossing of all ends one edge of its chord.
    before[found.order] = found.chord.take(found.order) + np.arange(2 * count)
    ends[before, 1] = ends[before + 1, 0] = np.concatenate([vertex, vertex])
    return Chains(starts, ends, before[:count], before[count:], vertex)


def trace(
    cells: Complex, chords: Chords, chains: Chains, points: np.ndarray, operator: int, units: np.ndarray
) -> Complex:
    """The cut complex with chords as edges, crossings at (x, 2): cells that none divides, then the others' parts."""
    divided = np.zeros(len(cells.counts), dtype=bool)
    divided[cells.cell_of.take(chords.start)] = True
    split = divided.take(cells.cell_of)
    (rim,) = split.nonzero()  # half-edges along the old boundaries
    (kept,) = (~split).nonzero()
    local = np.empty(len(cells.corners), dtype=np.int64)
    local[rim] = np.arange(len(rim))
    new_edges = len(cells.ends) + np.arange(len(chains.ends))
    corners = np.concatenate([cells.corners.take(rim), chains.ends.ravel()])
    sides = np.concatenate([cells.sides.take(rim), new_edges.repeat(2)])
    rows = starts_of(cells.counts.compress(divided))
    following = _following(rows, local.take(chords.start), local.take(chords.end), chains)
    starts, order = cycles(following)
    whole = starts_of(cells.counts.compress(~divided))
    pieces = chains.starts[1:] - chains.starts[:-1]
    return Complex(
        np.concatenate([cells.points, points]),
        np.concatenate([cells.ends, chains.ends]),
        np.concatenate([cells.operator, np.full(len(chains.ends), operator)]),
        np.concatenate([cells.unit, units.take(chords.function).repeat(pieces)]),
        np.concatenate([cells.chain, np.full(len(chains.ends), -1)]),
        np.concatenate([whole, starts[1:] + len(kept)]),
        np.concatenate([cells.corners.take(kept), corners.take(order)]),
        np.concatenate([cells.sides.take(kept), sides.take(order)]),
    )


def _following(rows: np.ndarray, start: np.ndarray, end: np.ndarray, chains: Chains) -> np.ndarray:
    """(H + 2 * edges,) the next half-edge around each new cell."""
    # Half-edges: the old boundaries (H,), cell by cell at ``rows``, then two per chord edge, along it and against it;
    # ``start`` and ``end`` are those at whose first corner each chord starts and ends. Arriving at a vertex, the next
    # half-edge is the one that turns left most: the cell lies on the left.
    count = int(rows[-1])
    along = count + 2 * np.arange(len(chains.ends))
    against = along + 1
    following = np.empty(count + 2 * len(along), dtype=np.int64)
    following[:count] = ring(rows)
    following[along[:-1]], following[against[1:]] = along[1:], against[:-1]  # overwritten at ends and crossings
    first, last = chains.starts[:-1], chains.starts[1:] - 1
    # Chord ends at one corner, counter-clockwise from the boundary that leaves it: by how far ahead their other end is.
    # Ahead of a start is a later place, ahead of an end an earlier one, which is farther by a whole turn.
    place = np.concatenate([start, end])
    turn = np.concatenate([end, start + count])
    order = (place * (2 * count) + turn).argsort(kind="stable")
    place = place.take(order)
    outgoing = np.concatenate([along.take(first), against.take(last)]).take(order)
    arriving = np.concatenate([against.take(first), along.take(last)]).take(order)
    # Who arrives along a chord turns left most into the chord before it in that order, or into the boundary that
    # leaves the corner where there is none.
    alone = fresh(place)
    following[arriving] = place
    following[arriving[1:]] = np.where(alone[1:], place[1:], outgoing[:-1])
    # The boundary that arrives at a corner leaves along the chord whose other end is farthest ahead.
    final = np.append(alone[1:], True)
    following[ring(rows, -1).take(place.compress(final))] = outgoing.compress(final)
    # Where chords cross, the first starts before the second around the cell, so seen along the first the second runs
    # from its right to its left: along the first, left is along the second; along the second, left is back on the
    # first; and so on around the crossing.
    a, b = chains.before_first, chains.before_second
    following[along.take(a)] = along.take(b + 1)
    following[along.take(b)] = against.take(a)
    following[against.take(a + 1)] = against.take(b)
    following[against.take(b + 1)] = along.take(a + 1)
    return following


def cycles(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cycles of a permutation, one after the other: where each starts, and the elements in order."""
    # The least element of a cycle leads it. By doubling: after k steps each element knows the least of 2^k from it on,
    # itself among them, and how far ahead that is: two numbers in one, so that the least is also the nearest.
    count = len(following)
    known, ahead, far = np.arange(count) << BITS, following, 1
    while ((further := known.take(ahead) + far) < known).any():
        known, ahead, far = np.minimum(known, further), ahead.take(ahead), 2 * far
    leader, steps = known >> BITS, known & ((1 << BITS) - 1)
    (first,) = (steps == 0).nonzero()
    # The element after a leader has all the others before it is back.
    steps[first] = steps.take(following.take(first)) + 1
    starts = starts_of(steps.take(first))
    end = np.empty(count, dtype=np.int64)
    end[first] = starts[1:]
    order = np.empty(count, dtype=np.int64)
    order[end.take(leader) - steps] = np.arange(count)
    return starts, order


def unite(cells: Complex, dropped: np.ndarray, loose: np.ndarray, tolerance: float) -> Complex:
    """Unite cells as :func:`dissolve` does, but for those whose union would have a dent beyond the tolerance."""
    done, member = dissolve(cells, dropped, loose)
    bent = np.unique(done.cell_of[bends(done) > 4 * tolerance]) if dropped.any() else ()
    if not len(bent):
        return done
    # All cells of a union whose boundary turns inwards stay apart; they are those reached from one of them.
    group = groups(cells.edge_cells[dropped], len(cells.counts))
    apart = np.isin(group[cells.edge_cells[:, 0]], group[member[bent]])
    return dissolve(cells, dropped & ~apart, loose)[0]


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
    here = cells.points.take(cells.corners, 0)
    last = here.take(ring(cells.starts, -1), 0)
    across = here.take(cells.following, 0) - last
    return cross(across, here - last) / np.maximum(lengths_of(across), TINY)


def dissolve(cells: Complex, dropped: np.ndarray, loose: np.ndarray) -> tuple[Complex, np.ndarray]:
    """Unite cells across the dropped edges (E,), to convex unions; also one of the cells that each of them unites."""
    # Loose vertices (V,) with two edges left go too.
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
    finish = begin[ring(starts)]
    used, sides = np.unique(edge, return_inverse=True)
    ends = np.empty((len(used), 2), dtype=np.int64)
    ends[sides, 0], ends[sides, 1] = np.where(forward, begin, finish), np.where(forward, finish, begin)
    found = Complex(cells.points, ends, *cells.marks(used), starts, begin, sides)
    return found, cells.cell_of[half[runs[starts[:-1]]]]


def _from_a_corner(half: np.ndarray, starts: np.ndarray, stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn every cycle so that it starts at a vertex that stays."""
    counts = np.diff(starts)
    cell, place = owners(counts), places(counts)
    shift = np.minimum.reduceat(np.where(stays, place, len(half)), starts[:-1])
    turned = (place + shift[cell]) % counts[cell]
    return half[starts[cell] + turned], starts_of(counts)
