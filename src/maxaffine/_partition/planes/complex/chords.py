"""Chords: within a cell the zero set of an affine function is a segment between two places of the cell's boundary.

A chord is known by where it starts and ends around its cell, not by coordinates. So what can be asked of chords is
combinatorial: two of them cross exactly when their ends interleave around the cell, and no rounding can make one chord
cross another an impossible number of times. Coordinates only say where along a chord a crossing lies, and whether two
crossings can be told apart; where they cannot, one is taken now and the other in the next round.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from maxaffine._partition.planes.complex.cells import Complex, cross, owners, spans, starts_of
from maxaffine._partition.planes.complex.cuts import CutComplex, Cuts, incidences
from maxaffine._partition.planes.complex.signs import Signs
from maxaffine.errors import PartitionError

# Corners this much closer to zero than the farthest one are taken for zeros, one after the other, where rounding made
# the signs around a cell alternate more than twice, which no affine function does.
LENIENCE = (1e-11, 1e-9, 1e-7, 1e-5)
PAIRS_AT_ONCE = 2**21


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
        half, function, position = incidences(self.cells, self.cuts, self.result)
        key = self.cells.cell_of[half] * self.table.shape[1] + function
        if self.allowed is not None:
            kept = _among(key, self.allowed)
            half, function, position, key = half[kept], function[kept], position[kept], key[kept]
        special = self._touching_pairs()
        order = np.argsort(key, kind="stable")
        pairs, counts = np.unique(key, return_counts=True)
        # Two cuts and no zero: the chord joins them. All else is found by walking around the cell.
        special = np.union1d(special, pairs[counts != 2])
        if len(special):
            order = order[~_among(key[order], special)]
        ends = position[order].reshape(-1, 2)
        functions = function[order[::2]]
        if len(special):
            where = np.argsort(half * self.table.shape[1] + function)
            known = (half * self.table.shape[1] + function)[where], position[where]
            found, regular = self._transitions(special, known)
            if not regular.all():
                self._calm(special[~regular])
                return None
            column = special % self.table.shape[1]
            kept, sound = self._proper(found, column)
            if not sound:
                return None
            ends, functions = np.concatenate([ends, found[kept]]), np.concatenate([functions, column[kept]])
        return _sort(functions, ends.min(1, initial=2**62), ends.max(1, initial=-1))

    def _touching_pairs(self) -> np.ndarray:
        """Pairs of a cell and a function with a zero at a corner beside both signs."""
        columns = np.flatnonzero((self.table == 0).any(0))
        if not len(columns):
            return np.zeros(0, dtype=np.int64)
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
        rows = starts_of(np.bincount(pair, minlength=len(pairs)))
        following = np.arange(1, len(half) + 1)
        following[rows[1:][np.diff(rows) > 0] - 1] = rows[:-1][np.diff(rows) > 0]
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
        length = np.hypot(*direction.T)
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
    """Chords by their start; those with the same ends become one."""
    order = np.lexsort((function, end, start))
    function, start, end = function[order], start[order], end[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (start[1:] != start[:-1]) | (end[1:] != end[:-1])
    number = np.cumsum(fresh) - 1
    coincident = np.stack([number[~fresh], function[~fresh]], 1)
    return Chords(function[fresh], start[fresh], end[fresh], coincident)


@dataclass(frozen=True, eq=False)
class Crossings:
    """Where chords cross."""

    first: np.ndarray  # (x,) the chord that starts before the other around their cell
    second: np.ndarray  # (x,) the other
    on_first: np.ndarray  # (x,) place on the first chord, from 0 at its start to 1 at its end
    on_second: np.ndarray  # (x,) place on the second
    reach: np.ndarray  # (x,) a distance in the plane: how exactly the place is known

    def subset(self, kept: np.ndarray) -> Crossings:
        """Those where the mask is true."""
        return Crossings(*(getattr(self, field.name)[kept] for field in fields(self)))


def find_crossings(cells: Complex, chords: Chords, tolerance: float) -> Crossings:
    """Find the crossings of the chords of all cells, after the cuts."""
    first, second = _crossing_pairs(chords)
    start = cells.points[cells.corners[chords.start]]
    along = cells.points[cells.corners[chords.end]] - start
    # s + a u = t + b v, solved by the cross product with v and with u.
    span = cross(along[first], along[second])
    gap = start[second] - start[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        on_first, on_second = cross(gap, along[second]) / span, cross(gap, along[first]) / span
    length = np.hypot(*along.T)
    # Ends are known to the tolerance; crossings at a small angle are known less exactly, by the angle's sine.
    reach = tolerance * length[first] * length[second] / np.maximum(np.abs(span), np.finfo(float).tiny)
    return Crossings(first, second, on_first, on_second, reach)


def _crossing_pairs(chords: Chords) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of chords whose ends interleave around their cell."""
    # Chords stand in the order of their starts, so those that start within a chord are a run after it. Half-edges are
    # numbered through, so the run never leaves the cell. Of the run those cross that start later and end later.
    begins = np.arange(1, len(chords.start) + 1)
    counts = np.maximum(np.searchsorted(chords.start, chords.end, "left") - begins, 0)
    firsts, seconds = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    total, low = np.cumsum(counts), 0
    while low < len(counts):
        before = total[low] - counts[low]
        high = max(low + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, "right")))
        first = np.repeat(np.arange(low, high), counts[low:high])
        second = spans(begins[low:high], counts[low:high])
        crossing = (chords.start[second] > chords.start[first]) & (chords.end[second] > chords.end[first])
        firsts.append(first[crossing])
        seconds.append(second[crossing])
        low = high
    return np.concatenate(firsts), np.concatenate(seconds)


def tell_apart(cells: Complex, chords: Chords, found: Crossings) -> tuple[Chords, Crossings, np.ndarray]:
    """The chords whose crossings can be told apart, their crossings, and the functions of the chords that wait."""
    # Where crossings of one chord lie closer than they are known to each other or to its ends (three units through one
    # point), only one of them is kept, and the other chords wait for the next round, in which the point is a vertex.
    length = np.hypot(*(cells.points[cells.corners[chords.end]] - cells.points[cells.corners[chords.start]]).T)
    waiting = np.zeros(len(length), dtype=bool)
    while (further := _too_close(found, length, chords.function)).any():
        waiting |= further
        found = found.subset(~(waiting[found.first] | waiting[found.second]))
    if not waiting.any():
        return chords, found, np.zeros(0, dtype=np.int64)
    number = np.cumsum(~waiting) - 1
    found = replace(found, first=number[found.first], second=number[found.second])
    return chords.subset(~waiting), found, np.unique(chords.functions_of(waiting))


def _too_close(found: Crossings, length: np.ndarray, function: np.ndarray) -> np.ndarray:
    """(c,) which chords must wait, so that the other crossings can be told apart."""
    waiting = np.zeros(len(length), dtype=bool)
    # The chord of the later function waits. So the first of all functions never does, and every round finishes one.
    later = np.where(function[found.first] > function[found.second], found.first, found.second)
    for chord, at in ((found.first, found.on_first), (found.second, found.on_second)):
        inside = (at * length[chord] > found.reach) & ((1 - at) * length[chord] > found.reach)
        waiting[later[~inside]] = True
    entry, near = close_along(found, length)
    if not near.any():
        return waiting
    # Of each run of crossings along a chord that lie too close to tell apart, the chord with the lowest function stays.
    other = np.concatenate([found.second, found.first])[entry]
    apart = np.ones(len(entry), dtype=bool)
    apart[1:] = ~near
    cluster = np.cumsum(apart) - 1
    rank = np.lexsort((function[other], cluster))
    later_ones = np.ones(len(rank), dtype=bool)
    later_ones[np.flatnonzero(np.diff(cluster[rank], prepend=-1))] = False
    waiting[other[rank[later_ones]]] = True
    return waiting


def close_along(found: Crossings, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crossings in order along chords of a length (c,), and which neighbors cannot be told apart."""
    # (2 x,) places among the crossings as their first chords have them, then as their second ones have; and for every
    # two neighbors whether they lie on one chord, closer than they are known.
    chord = np.concatenate([found.first, found.second])
    at = np.concatenate([found.on_first, found.on_second])
    order = np.lexsort((at, chord))
    chord, at, reach = chord[order], at[order], np.concatenate([found.reach, found.reach])[order]
    near = (at[1:] - at[:-1]) * length[chord[1:]] <= np.maximum(reach[1:], reach[:-1])
    return order, near & (chord[1:] == chord[:-1])
