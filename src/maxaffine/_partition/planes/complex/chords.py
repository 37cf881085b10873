"""Chords: within a cell the zero set of an affine function is a segment between two places of the cell's boundary.

A chord is known by where it starts and ends around its cell, not by coordinates. So what can be asked of chords is
combinatorial: two of them cross exactly when their ends interleave around the cell, and no rounding can make one chord
cross another an impossible number of times. Coordinates only say where along a chord a crossing lies, and whether two
crossings can be told apart; where they cannot, one is taken now and the other in the next round.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from maxaffine._partition.planes.complex.cells import (
    Complex,
    cross,
    fresh,
    lengths_of,
    order_along,
    owners,
    ring,
    spans,
    starts_of,
)
from maxaffine._partition.planes.complex.cuts import CutComplex, Cuts, incidences
from maxaffine._partition.planes.complex.signs import Signs
from maxaffine.errors import PartitionError

# Corners this much closer to zero than the farthest one are taken for zeros, one after the other, where rounding made
# the signs around a cell alternate more than twice, which no affine function does.
LENIENCE = (1e-11, 1e-9, 1e-7, 1e-5)
PAIRS_AT_ONCE = 2**21
TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Chords:
    """Segments across cells; the half-edges are those of the cut complex."""

    function: np.ndarray  # (c,) the function that is zero on each
    start: np.ndarray  # (c,) half-edge at whose first corner the chord starts; increasing
    end: np.ndarray  # (c,) half-edge of the same cell at whose first corner it ends; ``start < end``
    coincident: np.ndarray  # (k, 2) pairs of a chord and a further function that is zero on it

    def subset(self, kept: np.ndarray) -> Chords:
        """Those where the mask is true."""
        number = np.cumsum(kept) - 1
        pairs = self.coincident[kept[self.coincident[:, 0]]]
        pairs = np.stack([number[pairs[:, 0]], pairs[:, 1]], 1)
        return Chords(self.function[kept], self.start[kept], self.end[kept], pairs)

    def functions_of(self, some: np.ndarray) -> np.ndarray:
        """The functions that are zero on the chords where the mask is true."""
        return np.concatenate([self.function[some], self.coincident[some[self.coincident[:, 0]], 1]])


@dataclass(frozen=True, eq=False)
class Zeros:
    """What chords are made from."""

    cells: Complex  # the complex before its edges were cut
    table: np.ndarray  # (V, M) the functions at its vertices, zeros exact
    cuts: Cuts  # where they change sign on edges
    result: CutComplex  # the complex after the cuts
    # Increasing ``cell * M + function``: the pairs that are looked at; all of them when None.
    allowed: np.ndarray | None
    tolerance: float  # a distance in the plane

    def chords(self) -> Chords | None:
        """The chord of every function in every cell in which it changes sign; None where the table was changed."""
        # Some signs fit no affine function, and corners were taken for zeros in the table: a sign belongs to a vertex
        # and a function, so all cells around it have to be looked at anew.
        function, position = incidences(self.cells, self.cuts, self.result)
        key = self.result.cells.cell_of.take(position) * self.table.shape[1] + function
        if self.allowed is not None:
            kept = _among(key, self.allowed)
            function, position, key = function[kept], position[kept], key[kept]
        special = self._touching_pairs()
        order = key.argsort(kind="stable")
        # Two cuts and no zero: the chord joins them. All else is found by walking around the cell.
        sorted_key = key.take(order)
        first = fresh(sorted_key)
        if len(key) % 2 or not first[::2].all() or first[1::2].any():
            (begins,) = first.nonzero()
            counts = np.diff(begins, append=len(key))
            special = np.union1d(special, sorted_key[begins[counts != 2]])
        if len(special):
            order = order[~_among(sorted_key, special)]
        ends = position.take(order)
        start, end = np.minimum(ends[::2], ends[1::2]), np.maximum(ends[::2], ends[1::2])
        functions = function.take(order[::2])
        if len(special):
            half = np.searchsorted(self.result.places, position, "right") - 1
            known = half * self.table.shape[1] + function
            where = np.argsort(known)
            found, regular = self._transitions(special, (known[where], position[where]))
            if not regular.all():
                self._calm(special[~regular])
                return None
            column = special % self.table.shape[1]
            kept, sound = self._proper(found, column)
            if not sound:
                return None
            functions = np.concatenate([functions, column[kept]])
            start, end = np.concatenate([start, found[kept].min(1)]), np.concatenate([end, found[kept].max(1)])
            order = functions.argsort(kind="stable")
            functions, start, end = functions[order], start[order], end[order]
        return _sort(functions, start, end)

    def _touching_pairs(self) -> np.ndarray:
        """Pairs of a cell and a function with a zero at a corner beside both signs."""
        if self.table.all():
            return np.zeros(0, dtype=np.int64)
        columns = np.flatnonzero(~self.table.all(0))
        cell, column = Signs.of(self.table[:, columns]).touched_cells(self.cells)
        keys = np.sort(cell * self.table.shape[1] + columns[column])
        return keys if self.allowed is None else keys[_among(keys, self.allowed)]

    def _calm(self, pairs: np.ndarray) -> None:
        """Take corners for zeros, the smallest first, until no pair changes sign more than twice around its cell."""
        for lenience in LENIENCE:
            cell, function = np.divmod(pairs, self.table.shape[1])
            counts = self.cells.counts[cell]
            corner, pair = self.cells.corners[spans(self.cells.starts[cell], counts)], owners(counts)
            values = np.abs(self.table[corner, function[pair]])
            largest = np.maximum.reduceat(values, starts_of(counts)[:-1])
            small = values <= lenience * largest[pair]
            self.table[corner[small], function[pair[small]]] = 0
            pairs = pairs[~self._changes(pairs)[3]]
            if not len(pairs):
                return
        cell, function = divmod(int(pairs[0]), self.table.shape[1])
        place = tuple(float(t) for t in self.cells.centers[cell])
        raise PartitionError("a unit changes sign more than twice around a cell", place, function)

    def _changes(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Corners before a change of sign, the next corner that is not zero, their pairs; and which pairs have two."""
        cells = self.cells
        cell, function = np.divmod(pairs, self.table.shape[1])
        counts = cells.counts[cell]
        half, pair = spans(cells.starts[cell], counts), owners(counts)
        values = self.table[cells.corners[half], function[pair]]
        # Zeros are passed over: a change of sign lies between two corners that are not zero.
        strict = values != 0
        half, pair, positive = half[strict], pair[strict], values[strict] > 0
        rows = np.bincount(pair, minlength=len(pairs))
        following = ring(starts_of(rows[rows > 0]))
        change = np.flatnonzero(positive != positive[following])
        # Around a ring signs change an even number of times, so at most two means two or none.
        regular = np.bincount(pair[change], minlength=len(pairs)) <= 2
        return half[change], half[following[change]], pair[change], regular

    def _transitions(self, pairs: np.ndarray, known: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) ends for the pairs with exactly two changes of sign or none, and which pairs had no more."""
        cells, count = self.cells, self.table.shape[1]
        here, there, owner, regular = self._changes(pairs)
        kept = regular[owner]
        here, there, owner = here[kept], there[kept], owner[kept]
        # Between two neighboring corners lies a cut; between others lie zeros, of which the first is taken.
        adjacent = cells.following[here] == there
        position = self.result.places[cells.following[here]]
        wanted = (here * count + (pairs % count)[owner])[adjacent]
        keys, places = known
        position[adjacent] = places[np.searchsorted(keys, wanted)]
        # A pair without a change of sign has no chord: it is marked as one of no length, which is dropped.
        whole = np.zeros((len(pairs), 2), dtype=np.int64)
        whole[owner[::2]] = position.reshape(-1, 2)
        return whole[regular], regular

    def _proper(self, ends: np.ndarray, function: np.ndarray) -> tuple[np.ndarray, bool]:
        """Which chords leave corners on both sides beyond the tolerance; False where corners became zeros."""
        # A chord that leaves all corners of one side within the tolerance would cut off a cell that thin: the function
        # is zero at those corners instead.
        cells = self.result.cells
        cell = cells.cell_of[ends[:, 0]]
        start, end = cells.points[cells.corners[ends[:, 0]]], cells.points[cells.corners[ends[:, 1]]]
        direction = end - start
        length = lengths_of(direction)
        counts = cells.counts[cell]
        half, chord = spans(cells.starts[cell], counts), owners(counts)
        away = cross(direction[chord], cells.points[cells.corners[half]] - start[chord])
        rows = starts_of(counts)[:-1]
        least = self.tolerance * length
        left = np.maximum.reduceat(away, rows) > least if len(rows) else length > 0
        right = np.minimum.reduceat(away, rows) < -least if len(rows) else length > 0
        apart = ends[:, 0] != ends[:, 1]
        beside = ((away >= 0) & ~left[chord] | (away <= 0) & ~right[chord]) & apart[chord]
        # Points that this division added have no row: they lie on edges between corners that have.
        beside &= cells.corners[half] < len(self.table)
        vertex, column = cells.corners[half[beside]], function[chord[beside]]
        sound = not self.table[vertex, column].any()
        self.table[vertex, column] = 0
        return left & right & apart, sound


def _among(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which keys are in the increasing list."""
    if not len(wanted):
        return np.zeros(len(keys), dtype=bool)
    place = np.searchsorted(wanted, keys)
    return wanted[np.minimum(place, len(wanted) - 1)] == keys


def _sort(function: np.ndarray, start: np.ndarray, end: np.ndarray) -> Chords:
    """Chords, whose functions increase within each cell, by their start; those with the same ends become one."""
    key = start * (int(end.max(initial=0)) + 1) + end
    order = key.argsort(kind="stable")
    function, start, end = function.take(order), start.take(order), end.take(order)
    new = fresh(key.take(order))
    if new.all():
        return Chords(function, start, end, np.zeros((0, 2), dtype=np.int64))
    number = new.cumsum() - 1
    coincident = np.stack([number[~new], function[~new]], 1)
    return Chords(function[new], start[new], end[new], coincident)


@dataclass(frozen=True, eq=False)
class Crossings:
    """Where chords cross."""

    first: np.ndarray  # (x,) the chord that starts before the other around their cell
    second: np.ndarray  # (x,) the other
    on_first: np.ndarray  # (x,) place on the first chord, from 0 at its start to 1 at its end
    on_second: np.ndarray  # (x,) place on the second
    reach: np.ndarray  # (x,) a distance in the plane: how exactly the place is known
    length: np.ndarray  # (c,) of each chord

    @cached_property
    def chord(self) -> np.ndarray:
        """(2 x,) the chords: the first of every crossing, then the second of every crossing."""
        return np.concatenate([self.first, self.second])

    @cached_property
    def at(self) -> np.ndarray:
        """(2 x,) the place on each."""
        return np.concatenate([self.on_first, self.on_second])

    @cached_property
    def order(self) -> np.ndarray:
        """(2 x,) their order along all chords."""
        return order_along(self.chord, self.at)

    def subset(self, kept: np.ndarray) -> Crossings:
        """Those where the mask is true."""
        return replace(self, **{f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name != "length"})


def find_crossings(cells: Complex, chords: Chords, tolerance: float) -> Crossings:
    """Find the crossings of the chords of all cells, after the cuts."""
    first, second = _crossing_pairs(chords)
    start = cells.points.take(cells.corners.take(chords.start), 0)
    along = cells.points.take(cells.corners.take(chords.end), 0) - start
    # s + a u = t + b v, solved by the cross product with v and with u.
    u, v = along.take(first, 0), along.take(second, 0)
    span, gap = cross(u, v), start.take(second, 0) - start.take(first, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        on_first, on_second = cross(gap, v) / span, cross(gap, u) / span
    length = lengths_of(along)
    # Ends are known to the tolerance; crossings at a small angle are known less exactly, by the angle's sine.
    reach = tolerance * length.take(first) * length.take(second) / np.maximum(np.abs(span), TINY)
    return Crossings(first, second, on_first, on_second, reach, length)


def _crossing_pairs(chords: Chords) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of chords whose ends interleave around their cell."""
    # Chords stand in the order of their starts, so those that start within a chord are a run after it. Half-edges are
    # numbered through, so the run never leaves the cell. Of the run those cross that start later and end later.
    begins = np.arange(1, len(chords.start) + 1)
    counts = np.maximum(np.searchsorted(chords.start, chords.end, "left") - begins, 0)
    firsts, seconds = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    total, low = counts.cumsum(), 0
    while low < len(counts):
        before = total[low] - counts[low]
        high = max(low + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, "right")))
        first = np.arange(low, high).repeat(counts[low:high])
        second = spans(begins[low:high], counts[low:high])
        crossing = chords.start.take(second) > chords.start.take(first)
        crossing &= chords.end.take(second) > chords.end.take(first)
        firsts.append(first.compress(crossing))
        seconds.append(second.compress(crossing))
        low = high
    return np.concatenate(firsts), np.concatenate(seconds)


def tell_apart(chords: Chords, found: Crossings) -> tuple[Chords, Crossings, np.ndarray]:
    """The chords whose crossings can be told apart, their crossings, and the functions of the chords that wait."""
    # Where crossings of one chord lie closer than they are known to each other or to its ends (three units through one
    # point), only one of them is kept, and the other chords wait for the next round, in which the point is a vertex.
    waiting = np.zeros(len(chords.start), dtype=bool)
    while (further := _too_close(found, chords.function)).any():
        waiting |= further
        found = found.subset(~(waiting[found.first] | waiting[found.second]))
    if not waiting.any():
        return chords, found, np.zeros(0, dtype=np.int64)
    number = np.cumsum(~waiting) - 1
    found = replace(found, first=number[found.first], second=number[found.second], length=found.length[~waiting])
    return chords.subset(~waiting), found, np.unique(chords.functions_of(waiting))


def _too_close(found: Crossings, function: np.ndarray) -> np.ndarray:
    """(c,) which chords must wait, so that the other crossings can be told apart."""
    waiting = np.zeros(len(function), dtype=bool)
    room = np.minimum(found.at, 1 - found.at) * found.length.take(found.chord)
    inside = room > np.concatenate([found.reach, found.reach])
    if not inside.all():
        # The chord of the later function waits. So the first of all never does, and every round finishes one.
        later = np.where(function[found.first] > function[found.second], found.first, found.second)
        waiting[np.concatenate([later, later])[~inside]] = True
    near = close_along(found)
    if not near.any():
        return waiting
    # Of each run of crossings along a chord that lie too close to tell apart, the chord with the lowest function stays.
    other = np.concatenate([found.second, found.first])[found.order]
    apart = np.ones(len(other), dtype=bool)
    apart[1:] = ~near
    cluster = np.cumsum(apart) - 1
    rank = np.lexsort((function[other], cluster))
    waiting[other[rank[~fresh(cluster[rank])]]] = True
    return waiting


def close_along(found: Crossings) -> np.ndarray:
    """Which neighbors, of all crossings in order along their chords, lie on one chord, closer than they are known."""
    chord, at = found.chord.take(found.order), found.at.take(found.order)
    reach = np.concatenate([found.reach, found.reach]).take(found.order)
    near = (at[1:] - at[:-1]) * found.length.take(chord[1:]) <= np.maximum(reach[1:], reach[:-1])
    return near & (chord[1:] == chord[:-1])
