"""One round: all cells are divided by the zero sets of many functions at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxaffine.partition.planes.complex.cells import Complex
from maxaffine.partition.planes.complex.chords import Zeros, find_crossings
from maxaffine.partition.planes.complex.cuts import cut, find_cuts
from maxaffine.partition.planes.complex.faces import chain, trace
from maxaffine.partition.planes.complex.signs import Signs


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions that are affine within every cell.

    Attributes:
        table: (V, M) their values at the vertices; those taken for zero are zeros. It may be written to.
        operator: Number of the operator whose boundaries their zero sets are.
        units: (M,) its units.
        pairs: (cells, functions), sorted by cell: only these are divided by those; None for all.
    """

    table: np.ndarray
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
        cells: The new complex; its new vertices stand behind the old ones, stage after stage.
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
    cuts = find_cuts(cells, table, functions.crossed(cells), tolerance)
    result = cut(cells, cuts)
    allowed = None if functions.pairs is None else np.sort(functions.pairs[0] * table.shape[1] + functions.pairs[1])
    chords = Zeros(cells, table, cuts, result, allowed, tolerance).chords()
    chords, found, put_off = find_crossings(result.cells, chords, tolerance)
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
