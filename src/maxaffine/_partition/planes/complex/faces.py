"""Second half of a round: the cells that chords divide are traced anew.

A division of one cell by many crossing chords has no simple formula, but a simple rule: walk along half-edges, and at
every vertex turn left as far as possible; each closed walk is a cell. "The next half-edge" is one array, so all cells
of all divisions are the cycles of one permutation, which doubling finds in as many steps as the longest has binary
digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.planes.complex.cells import Complex
from maxaffine._partition.planes.complex.chords import Chords, Crossings
from maxaffine._partition.planes.complex.ragged import spans, starts_of


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
    chord = np.concatenate([found.first, found.second])
    order = np.lexsort((np.concatenate([found.on_first, found.on_second]), chord))
    pieces = np.bincount(chord, minlength=len(chords.start)) + 1
    starts = starts_of(pieces)
    ends = np.empty((int(starts[-1]), 2), dtype=np.int64)
    ends[starts[:-1], 0] = cells.corners[chords.start]
    ends[starts[1:] - 1, 1] = cells.corners[chords.end]
    before = np.empty(2 * count, dtype=np.int64)
    before[order] = chord[order] + np.arange(2 * count)  # the i-th crossing of all ends one edge of its chord
    there = np.concatenate([vertex, vertex])
    ends[before, 1] = ends[before + 1, 0] = there
    return Chains(starts, ends, before[:count], before[count:], vertex)


def trace(
    cells: Complex, chords: Chords, chains: Chains, points: np.ndarray, operator: int, units: np.ndarray
) -> Complex:
    """The cut complex with chords as edges, crossings at (x, 2): cells that none divides, then the others' parts."""
    divided = np.zeros(len(cells.starts) - 1, dtype=bool)
    divided[cells.cell_of[chords.start]] = True
    whole = np.flatnonzero(~divided)
    split = np.flatnonzero(divided)
    kept = spans(cells.starts[whole], cells.counts[whole])
    rim = spans(cells.starts[split], cells.counts[split])  # half-edges along the old boundaries
    local = np.empty(len(cells.corners), dtype=np.int64)
    local[rim] = np.arange(len(rim))
    new_edges = len(cells.ends) + np.arange(len(chains.ends))
    corners = np.concatenate([cells.corners[rim], chains.ends.ravel()])
    sides = np.concatenate([cells.sides[rim], np.repeat(new_edges, 2)])
    following = _following(local[cells.following[rim]], local[chords.start], local[chords.end], chains)
    starts, order = cycles(following)
    pieces = np.diff(chains.starts)
    return Complex(
        np.concatenate([cells.points, points]),
        np.concatenate([cells.ends, chains.ends]),
        np.concatenate([cells.operator, np.full(len(chains.ends), operator)]),
        np.concatenate([cells.unit, np.repeat(units[chords.function], pieces)]),
        np.concatenate([cells.chain, np.full(len(chains.ends), -1)]),
        np.concatenate([starts_of(cells.counts[whole]), starts[1:] + len(kept)]),
        np.concatenate([cells.corners[kept], corners[order]]),
        np.concatenate([cells.sides[kept], sides[order]]),
    )


def _following(rim: np.ndarray, start: np.ndarray, end: np.ndarray, chains: Chains) -> np.ndarray:
    """(H + 2 * edges,) the next half-edge around each new cell."""
    # Half-edges: the old boundaries (H,), then two per chord edge, along it and against it. ``rim`` is the next one
    # along each old boundary; ``start`` and ``end`` are those at whose first corner each chord starts and ends.
    # Arriving at a vertex, the next half-edge is the one that turns left most: the cell lies on the left.
    count = len(rim)
    along, against = count + 2 * np.arange(len(chains.ends)), count + 2 * np.arange(len(chains.ends)) + 1
    following = np.concatenate([rim, np.full(2 * len(chains.ends), -1)])
    following[along[:-1]], following[against[1:]] = along[1:], against[:-1]  # overwritten at ends and crossings
    first, last = chains.starts[:-1], chains.starts[1:] - 1
    # Chord ends at one corner, counter-clockwise from the boundary that leaves it: by how far ahead their other end is.
    # Ahead of a start is a later place, ahead of an end an earlier one, which is farther by a whole turn.
    place = np.concatenate([start, end])
    other = np.concatenate([end, start])
    turn = np.repeat([0, 1], len(start))
    outgoing = np.concatenate([along[first], against[last]])
    arriving = np.concatenate([against[first], along[last]])
    order = np.lexsort((other, turn, place))
    place, outgoing, arriving = place[order], outgoing[order], arriving[order]
    # Who arrives along a chord turns left most into the chord before it in that order, or into the boundary that
    # leaves the corner where there is none.
    alone = np.ones(len(place), dtype=bool)
    alone[1:] = place[1:] != place[:-1]
    following[arriving] = np.where(alone, place, np.roll(outgoing, 1))
    final = np.ones(len(place), dtype=bool)
    final[:-1] = alone[1:]
    # The boundary that arrives at a corner leaves along the chord whose other end is farthest ahead.
    leaving = np.full(count, -1)
    leaving[place[final]] = outgoing[final]
    turned = leaving[rim] >= 0
    following[:count][turned] = leaving[rim[turned]]
    # Where chords cross, the first starts before the second around the cell, so seen along the first the second runs
    # from its right to its left: along the first, left is along the second; along the second, left is back on the
    # first; and so on around the crossing.
    a, b = chains.before_first, chains.before_second
    following[along[a]] = along[b + 1]
    following[along[b]] = against[a]
    following[against[a + 1]] = against[b]
    following[against[b + 1]] = along[a + 1]
    return following


def cycles(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cycles of a permutation, one after the other: where each starts, and the elements in order."""
    # The least element of a cycle leads it. By doubling: after k steps each element knows the least of 2^k ahead.
    leader, ahead = np.arange(len(following)), following
    while True:
        smaller = np.minimum(leader, leader[ahead])
        if np.array_equal(smaller, leader):
            break
        leader, ahead = smaller, ahead[ahead]
    first = np.flatnonzero(leader == np.arange(len(following)))
    number = np.empty(len(following), dtype=np.int64)
    number[first] = np.arange(len(first))
    starts = starts_of(np.bincount(number[leader], minlength=len(first)))
    # Steps to the next leader, by doubling: an element that has arrived stays.
    steps = (leader != np.arange(len(following))).astype(np.int64)
    ahead = np.where(steps == 0, np.arange(len(following)), following)
    while True:
        further = steps + steps[ahead]
        if np.array_equal(further, steps):
            break
        steps, ahead = further, ahead[ahead]
    # An element that is s steps before the leader of a cycle of n stands at place n - s, the leader itself at 0.
    cycle = number[leader]
    place = np.where(steps == 0, 0, np.diff(starts)[cycle] - steps)
    order = np.empty(len(following), dtype=np.int64)
    order[starts[cycle] + place] = np.arange(len(following))
    return starts, order
