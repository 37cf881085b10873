"""One round: all cells are divided by the zero sets of many functions at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maxaffine._partition.planes.complex.cells import SPOKE, Complex, cross
from maxaffine._partition.planes.complex.chords import Zeros, find_crossings, told_apart
from maxaffine._partition.planes.complex.cuts import cut, find_cuts
from maxaffine._partition.planes.complex.faces import chain, trace
from maxaffine._partition.planes.complex.hubs import Hub, find_hubs
from maxaffine._partition.planes.complex.ragged import owners, spans
from maxaffine._partition.planes.complex.signs import Signs


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions that are affine within every cell.

    Attributes:
        table: (V, M) their values at the vertices; those taken for zero are zeros. It may be written to.
        least: (M,) what counts as zero of each.
        operator: Number of the operator whose boundaries their zero sets are.
        units: (M,) its units.
        pairs: (cells, functions), sorted by cell: only these are divided by those; None for all.
    """

    table: np.ndarray
    least: np.ndarray
    operator: int
    units: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray] | None = None

    def crossed(self, cells: Complex) -> tuple[np.ndarray, np.ndarray]:
        """Edges with functions of opposite signs at their ends, sorted by edge."""
        if self.pairs is None:
            return Signs.of(self.table).crossed_edges(cells.ends)
        cell, function = self.pairs
        counts = cells.counts[cell]
        which = np.repeat(np.arange(len(cell)), counts)
        half = np.arange(len(which)) + np.repeat(cells.starts[cell] - (np.cumsum(counts) - counts), counts)
        keys = np.unique(cells.sides[half] * self.table.shape[1] + function[which])
        edge, function = np.divmod(keys, self.table.shape[1])
        a, b = self.table[cells.ends[edge, 0], function], self.table[cells.ends[edge, 1], function]
        opposite = (a > 0) & (b < 0) | (a < 0) & (b > 0)
        return edge[opposite], function[opposite]


@dataclass(frozen=True, eq=False)
class Stage:
    """New vertices, each on a segment between two earlier ones.

    Attributes:
        first: (n,) vertex at one end of the segment.
        second: (n,) vertex at its other end.
        at: (n,) where the new vertex lies, from 0 at the first to 1 at the second.
        vertex: (z,) new vertices, counted over the whole complex, at which a function is zero.
        function: (z,) that function.
    """

    first: np.ndarray
    second: np.ndarray
    at: np.ndarray
    vertex: np.ndarray
    function: np.ndarray


@dataclass(frozen=True, eq=False)
class Round:
    """What a round of divisions left.

    Attributes:
        cells: The new complex; its new vertices come after the old ones, stage after stage.
        stages: How the new vertices were made.
        put_off: Functions that still divide some cell, for the next round.
    """

    cells: Complex
    stages: tuple[Stage, ...]
    put_off: np.ndarray


def subdivide(cells: Complex, functions: Functions, tolerance: float) -> Round:
    """Divide cells by zero sets.

    Args:
        cells: The complex.
        functions: What divides it.
        tolerance: A distance in the plane: points closer than that may become one.

    Returns:
        The divided complex.

    Raises:
        PartitionError: When the signs of a function around a cell are not those of an affine function.
    """
    table, count = functions.table, len(cells.points)
    allowed = None if functions.pairs is None else np.sort(functions.pairs[0] * table.shape[1] + functions.pairs[1])
    # Signs first, for all cells alike; what is cut then agrees on both sides of every edge. A change of signs only adds
    # zeros, so this ends.
    while True:
        cuts = find_cuts(cells, table, functions.least, functions.crossed(cells), tolerance)
        result = cut(cells, cuts)
        chords = Zeros(cells, table, cuts, result, allowed, tolerance).chords()
        if chords is not None:
            break
    if (cells.operator == SPOKE).any():
        cells = _with_boundaries(cells, functions)
        result = cut(cells, cuts)
    found, reach = find_crossings(result.cells, chords, tolerance)
    kept, apart, put_off = told_apart(result.cells, chords, found, reach)
    if len(put_off) and functions.operator != SPOKE:
        hubs = find_hubs(result.cells, chords, found, reach, tolerance)
        if hubs:
            return _with_hubs(cells, hubs, table.shape[1], tolerance)
    chords, found = kept, apart
    edge = cuts.edge[cuts.first]
    ends = cells.ends[edge]
    stages = [Stage(ends[:, 0], ends[:, 1], cuts.at, count + cuts.vertex, cuts.function)] if len(edge) else []
    if not len(chords.start):
        return Round(result.cells, tuple(stages), put_off)
    chains = chain(result.cells, chords, found)
    first, second = (result.cells.corners[places[found.first]] for places in (chords.start, chords.end))
    start = result.cells.points[first]
    points = start + found.on_first[:, None] * (result.cells.points[second] - start)
    if len(points):
        crossing = np.concatenate([chains.vertex, chains.vertex])
        zero = np.concatenate([chords.function[found.first], chords.function[found.second]])
        stages.append(Stage(first, second, found.on_first, crossing, zero))
    cells = trace(result.cells, chords, chains, points, functions.operator, functions.units)
    return Round(cells, tuple(stages), put_off)


def _with_boundaries(cells: Complex, functions: Functions) -> Complex:
    """The complex whose spokes along which a function is zero are its boundary, where it is not zero beside them."""
    # Nothing else bends across a spoke, so that the function has opposite signs on its two sides.
    if functions.pairs is not None:
        return cells
    table, spoke = functions.table, np.flatnonzero(cells.operator == SPOKE)
    place, function = np.nonzero((table[cells.ends[spoke]] == 0).all(1))
    cell = cells.edge_cells[spoke[place], 0]
    counts = cells.counts[cell]
    corners = cells.corners[spans(cells.starts[cell], counts)]
    beside = np.bincount(owners(counts), table[corners, np.repeat(function, counts)] != 0, len(cell)) > 0
    operator, unit = cells.operator.copy(), cells.unit.copy()
    operator[spoke[place[beside]]] = functions.operator
    unit[spoke[place[beside]]] = functions.units[function[beside]]
    return replace(cells, operator=operator, unit=unit)


def _with_hubs(cells: Complex, hubs: list[Hub], count: int, tolerance: float) -> Round:
    """A round that draws two spokes through each hub and divides by nothing else; all functions are put off."""
    lines = 2 * np.arange(len(hubs))
    cell = np.repeat([hub.cell for hub in hubs], 2)
    point, direction = np.repeat([hub.point for hub in hubs], 2, 0), np.concatenate([hub.directions for hub in hubs])
    table = cross(direction, cells.points[:, None] - point)
    order = np.argsort(cell, kind="stable")
    pairs, nothing = (cell[order], np.arange(len(cell))[order]), np.zeros(len(cell))
    spokes = Functions(table, nothing, SPOKE, np.full(len(cell), SPOKE), pairs)
    done = subdivide(cells, spokes, tolerance)
    # Both lines of a hub are zero at one new vertex alone: there its functions are zero, and else nothing is known.
    stages = []
    for stage in done.stages:
        vertex, function = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        for hub, line in zip(hubs, lines, strict=True):
            both = np.intersect1d(stage.vertex[stage.function == line], stage.vertex[stage.function == line + 1])
            vertex = np.concatenate([vertex, np.repeat(both[:1], len(hub.functions) if len(both) else 0)])
            function = np.concatenate([function, hub.functions if len(both) else function[:0]])
        stages.append(replace(stage, vertex=vertex, function=function))
    return Round(done.cells, tuple(stages), np.arange(count))
