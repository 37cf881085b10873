"""Dividing by maxima and minima of several entries: cells are divided where one winner takes over from another.

Within a cell the entries of a window are affine, and the parts in which each is largest form a power diagram, whose
edges may end inside the cell. A round cuts every cell in which no entry wins at all corners along the whole chord on
which two of the winners agree; after the last round the pieces of chords along which a third entry is larger are
taken out again.

Flat patches of images tie entries of a window at points, along edges and all over cells. So a tie is a fact about a
vertex, kept as equal numbers: entries that differ by rounding alone are made equal when their vertex comes into being,
whole groups of them, and stay so. What is equal at both ends of an edge is equal all along it, since both are
interpolated alike; a sign of a difference is then the same for all cells around a vertex, and "ties" is an equivalence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from maxaffine._chunks import slices
from maxaffine._partition.planes.complex.cells import SPOKE, Complex, owners, spans
from maxaffine._partition.planes.complex.faces import unite
from maxaffine._partition.planes.complex.subdivide import Functions, Stage, subdivide
from maxaffine._partition.planes.growth import extend_table
from maxaffine._partition.planes.levels import finite_rows
from maxaffine.errors import PartitionError

CHUNK_ENTRIES = 2**22
ENTRIES = 2**25  # held of the units that divide together
MANY_ROUNDS = 200


@dataclass(frozen=True)
class Boundary:
    """Whose boundaries are drawn, and how finely."""

    operator: int  # number of the operator
    smallest: bool  # whether the smallest entry wins
    tolerance: float  # a distance in the plane


def divide_by_extremes(
    cells: Complex, x: np.ndarray, windows: np.ndarray, least: np.ndarray, boundary: Boundary
) -> tuple[Complex, tuple[Stage, ...]]:
    """Divide a complex so that every unit has one winner in each cell; also how its new vertices were made."""
    # x (V, K) is the operator's input at the vertices; each unit selects among the entries of its window (U, m), and
    # differences of entries up to ``least`` (K,) count as zero.
    # What a mask has put at infinity loses, or wins, everywhere, and takes no part in what ties.
    least = np.where(np.isinf(x[0]), 0, least)
    x = finite_rows(x)
    first, stages = len(cells.points), ()
    waiting = _Contest.of(x, windows, least, boundary.smallest).units
    while len(waiting):
        # Some units at a time. Those that follow take their entries from the inputs, interpolated at the vertices that
        # the ones before have made.
        chosen, waiting = np.split(waiting, [_at_once(len(cells.points), windows.shape[1])])
        used, place = np.unique(windows[chosen], return_inverse=True)
        entries = extend_table(x[:, used], stages)
        contest = _Contest.of(entries, place.reshape(len(chosen), -1), least[used], boundary.smallest)
        cells, new = _settle(cells, replace(contest, units=chosen[contest.units]), boundary, first)
        stages += new
    return cells, stages


def _at_once(vertices: int, size: int) -> int:
    """How many units divide together: all of their boundaries may cross one another."""
    return max(1, min(ENTRIES // (vertices * size), int((ENTRIES / size) ** (1 / 3))))


def _settle(cells: Complex, contest: _Contest, boundary: Boundary, first: int) -> tuple[Complex, tuple[Stage, ...]]:
    """Divide by some of the units, in rounds, until each has an entry that wins all over every cell."""
    stages: tuple[Stage, ...] = ()
    for _ in range(MANY_ROUNDS):
        cell, unit = contest.undecided(cells)
        if not len(cell):
            return _without_losers(cells, contest, boundary, first), stages
        # Every round cuts each undecided cell where two entries that win at different corners of it are equal.
        pairs, functions = contest.duels(cells, cell, unit)
        table = contest.table(functions)
        before = table != 0
        unit = functions[:, 0]
        columns = Functions(table, contest.least[unit], boundary.operator, contest.units[unit], pairs)
        done = subdivide(cells, columns, boundary.tolerance)
        # A zero that the division has put into the table says that two entries are equal at that vertex.
        contest = contest.after(functions, before & (table == 0), done.stages)
        stages += done.stages
        cells = done.cells
    cell, unit = contest.undecided(cells)
    place = tuple(cells.centers[cell[0]].tolist())
    raise PartitionError("the winners of a maximum cannot be told apart", place, int(contest.units[unit[0]]))


def _without_losers(cells: Complex, contest: _Contest, boundary: Boundary, first: int) -> Complex:
    """Without the pieces of chords along which a third entry wins; the others are named after a unit that changes."""
    # Cells are united that lie in one cell of those before the division (all chords lie within one) and have the same
    # winners; both are equivalences, so that the order of asking does not matter. Along a spoke only a change of
    # winners counts: it is then a boundary.
    mine = (cells.operator == boundary.operator) & np.isin(cells.unit, contest.units)
    looked = np.flatnonzero(mine | (cells.operator == SPOKE) & (cells.edge_cells >= 0).all(1))
    changing = contest.changing(cells, looked)
    changed, unit = looked[changing >= 0], contest.units[changing[changing >= 0]]
    named = replace(cells, unit=cells.unit.copy(), operator=cells.operator.copy())
    named.unit[changed], named.operator[changed] = unit, boundary.operator
    dropped = mine.copy()
    dropped[changed] = False
    return unite(named, dropped, np.arange(len(cells.points)) >= first, boundary.tolerance)


@dataclass(frozen=True, eq=False)
class _Contest:
    """The entries of the units that are not decided everywhere."""

    units: np.ndarray  # (A,) their flat numbers
    entries: np.ndarray  # (V, A, m) their windows, larger is better; those that tie are equal
    least: np.ndarray  # (A,) differences that count as zero where a vertex is new

    @classmethod
    def of(cls, x: np.ndarray, windows: np.ndarray, least: np.ndarray, smallest: bool) -> _Contest:
        """The units of which no entry wins at all vertices."""
        sign = -1.0 if smallest else 1.0
        bounds = least[windows].max(1)
        open_units = [np.zeros(0, dtype=np.int64)]
        for chosen in _parts(len(windows), len(x) * windows.shape[1]):
            entries = sign * x[:, windows[chosen]]
            wins = entries >= entries.max(2, keepdims=True) - bounds[chosen][:, None]
            open_units.append(chosen[~wins.all(0).any(-1)])
        units = np.concatenate(open_units)
        entries = sign * x[:, windows[units]]
        _level(entries, bounds[units])
        return cls(units, entries, bounds[units])

    def wins(self, vertices: np.ndarray, units: np.ndarray) -> np.ndarray:
        """(n, m) which entries win at these vertices, of these units."""
        entries = self.entries[vertices, units]
        return entries == entries.max(1, keepdims=True)

    def undecided(self, cells: Complex) -> tuple[np.ndarray, np.ndarray]:
        """(cell, unit) without an entry that wins at all corners, by cell."""
        found = [np.zeros((0, 2), dtype=np.int64)]
        for units in self._units_of(cells):
            common = self._common(cells, units)
            cell, unit = np.nonzero(~common.any(2))
            found.append(np.stack([cell, units[unit]], 1))
        pairs = np.concatenate(found)
        return tuple(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].T)

    def _common(self, cells: Complex, units: np.ndarray) -> np.ndarray:
        """(F, units, m) which entries win at all corners of each cell."""
        entries = self.entries[:, units]
        wins = entries == entries.max(2, keepdims=True)
        return np.logical_and.reduceat(wins[cells.corners], cells.starts[:-1], axis=0)

    def changing(self, cells: Complex, edges: np.ndarray) -> np.ndarray:
        """(n,) the place of a unit whose winner differs across each edge between cells; -1 for none."""
        sides = cells.edge_cells[edges]
        found, within = self._changes(cells, sides, None)
        slivers = _slivers(sides, within & (found >= 0), cells.areas)
        if not len(slivers):
            return found
        followed = np.arange(len(cells.counts))
        followed[slivers[:, 0]] = slivers[:, 1]
        return self._changes(cells, sides, followed)[0]

    def _changes(self, cells: Complex, sides: np.ndarray, followed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`changing`, if cells have the winners of others; and (2, n) on which side those of both win too."""
        left, right = sides.T
        found, within = np.full(len(sides), -1), np.ones((2, len(sides)), dtype=bool)
        for units in self._units_of(cells) if len(sides) else ():
            common = self._common(cells, units)
            # Of entries that tie all over a cell the lowest is its winner, as everywhere.
            winner = common.argmax(2) if followed is None else common.argmax(2)[followed]
            changes = winner[left] != winner[right]
            found = np.where((found < 0) & changes.any(1), units[changes.argmax(1)], found)
            edge, unit = np.nonzero(changes)
            for side, (here, there) in enumerate(((left[edge], right[edge]), (right[edge], left[edge]))):
                within[side, edge[~common[here, unit, winner[there, unit]]]] = False
        return found, within

    def _units_of(self, cells: Complex) -> Iterator[np.ndarray]:
        """Places of units, as many at once as memory holds their entries at all corners."""
        return _parts(len(self.units), len(cells.corners) * self.entries.shape[2])

    def duels(
        self, cells: Complex, cell: np.ndarray, unit: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """For every undecided cell (increasing) and unit two entries, of which each wins at some corner alone."""
        # Found: the cells with the functions that divide them, and the functions, (M, 3): unit, one entry, other entry.
        counts = cells.counts[cell]
        half, pair = spans(cells.starts[cell], counts), owners(counts)
        wins = self.wins(cells.corners[half], unit[pair])
        order = np.lexsort((wins.sum(1), pair))
        begins = np.cumsum(counts) - counts
        # Fewest winners: no other corner's winners are all among them unless they are the same.
        here = wins[order[begins]]
        missing = (here[pair] & ~wins).any(axis=1)
        there = wins[np.minimum.reduceat(np.where(missing, np.arange(len(pair)), len(pair)), begins)]
        one, other = (here & ~there).argmax(1), (there & ~here).argmax(1)
        m = wins.shape[1]
        keys = (unit * m + np.minimum(one, other)) * m + np.maximum(one, other)
        functions, function = np.unique(keys, return_inverse=True)
        return (cell, function), np.stack([functions // m**2, functions // m % m, functions % m], 1)

    def table(self, functions: np.ndarray) -> np.ndarray:
        """(V, M) one entry less the other."""
        unit, one, other = functions.T
        return self.entries[:, unit, one] - self.entries[:, unit, other]

    def after(self, functions: np.ndarray, zeros: np.ndarray, stages: tuple[Stage, ...]) -> _Contest:
        """The entries at all vertices of the divided complex; those that a zero says are equal are."""
        count = len(self.entries)
        entries = np.empty((count + sum(len(stage.at) for stage in stages), *self.entries.shape[1:]))
        entries[:count] = self.entries
        vertex, place = np.nonzero(zeros)
        _tie(entries, vertex, place, functions)
        # Stage by stage: what ties at both ends of a segment has to be equal there before it is interpolated.
        for stage in stages:
            fresh = slice(count, count + len(stage.at))
            first, second = entries[stage.first], entries[stage.second]
            entries[fresh] = first + stage.at[:, None, None] * (second - first)
            _tie(entries, stage.vertex, stage.function, functions)
            _level(entries[fresh], self.least)
            count = fresh.stop
        return _Contest(self.units, entries, self.least)


def _slivers(sides: np.ndarray, within: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(m, 2) cells that are part of another by ties of rounding alone, and the one beside each whose winners it has."""
    # ``sides`` (n, 2) are the cells beside edges across which the entries are affine, and ``within`` (2, n) says
    # whether the winners of the cell on the other side win all over the first, and over the second, too. If entries tie
    # on one side alone, it is because rounding levels them there: in a sliver along the line on which they are equal,
    # which has no code of its own. A large cell in which they tie is not one.
    pairs = np.concatenate([sides[within[0]], sides[within[1], ::-1]])
    pairs = pairs[areas[pairs[:, 0]] < areas[pairs[:, 1]]]
    # Only a cell that is not a sliver itself, whose winners have been compared; of several the largest.
    pairs = pairs[~np.isin(pairs[:, 1], pairs[:, 0])]
    pairs = pairs[np.argsort(-areas[pairs[:, 1]], kind="stable")]
    return pairs[np.unique(pairs[:, 0], return_index=True)[1]]


def _tie(entries: np.ndarray, vertex: np.ndarray, function: np.ndarray, functions: np.ndarray) -> None:
    """Make the two entries of each function equal at a vertex, and all that lie between them, and their equals."""
    unit, one, other = functions[function].T
    while True:
        a, b = entries[vertex, unit, one], entries[vertex, unit, other]
        apart = np.flatnonzero((a < b) | (b < a))
        if not len(apart):
            return
        # One function of a vertex and unit at a time: the next may join what this one has raised.
        apart = apart[np.unique(vertex[apart] * entries.shape[1] + unit[apart], return_index=True)[1]]
        low, high = np.minimum(a, b)[apart, None], np.maximum(a, b)[apart, None]
        row = entries[vertex[apart], unit[apart]]
        entries[vertex[apart], unit[apart]] = np.where((row >= low) & (row <= high), high, row)


def _level(entries: np.ndarray, least: np.ndarray) -> None:
    """Make entries that differ by what counts as zero equal, also by chains of such steps, in (V, A, m) in place."""
    for units in _parts(entries.shape[1], len(entries) * entries.shape[2]):
        step = np.diff(np.sort(entries[:, units], axis=2), axis=2)
        vertex, unit = np.nonzero(((step > 0) & (step <= least[units][:, None])).any(2))
        if not len(vertex):
            continue
        unit = units[unit]
        row = entries[vertex, unit]
        # From the largest down, a gap begins a new group; every entry is raised to the head of its own.
        order = np.argsort(-row, axis=1, kind="stable")
        falling = np.take_along_axis(row, order, 1)
        fresh = np.ones(falling.shape, dtype=bool)
        fresh[:, 1:] = falling[:, :-1] - falling[:, 1:] > least[unit][:, None]
        head = np.maximum.accumulate(np.where(fresh, np.arange(row.shape[1]), 0), axis=1)
        np.put_along_axis(row, order, np.take_along_axis(falling, head, 1), 1)
        entries[vertex, unit] = row


def _parts(count: int, cost: int) -> Iterator[np.ndarray]:
    """Numbers below a count, as many at once as memory holds entries, of which each costs so many."""
    return (np.arange(part.start, part.stop) for part in slices(count, CHUNK_ENTRIES // max(1, cost)))
