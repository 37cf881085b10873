"""One round: all cells are divided by the zero sets of many functions at once.

An operator has hundreds of units, and a plane a hundred thousand cells. One unit after the other would touch every cell
hundreds of times; here all units divide all cells in one pass: cut the edges where signs change, join the cuts of each
unit in each cell by a chord, cross the chords, and trace the parts. What lies too close together to be told apart in
one round waits for the next, in which the point is a vertex and nothing needs telling apart.

Where hundreds of zero sets pass through one point inside a cell, their chords, whose ends are rounded, cross in a
cluster of points around it. So the point, a hub, is fitted to the chords, and before anything is divided there, two
edges that cross in it ("spokes", not boundaries, taken out again in the end) are drawn through its cell. In the next
round every chord starts at that one vertex, where its function is zero, and none of them cross.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maxaffine._partition.planes.complex.cells import SPOKE, Complex, cross, owners, spans
from maxaffine._partition.planes.complex.chords import (
    Chords,
    Crossings,
    Zeros,
    close_along,
    find_crossings,
    tell_apart,
)
from maxaffine._partition.planes.complex.cuts import cut, find_cuts
from maxaffine._partition.planes.complex.faces import chain, groups, trace
from maxaffine._partition.planes.complex.signs import Signs

FEW = 4  # chords through one point that are left to the order of rounds: fewer than this
SHARP = 1e3  # crossings known worse than this many tolerances say nothing about a common point
AT_ONCE = 64
ROUNDS = 6


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions that are affine within every cell."""

    table: np.ndarray  # (V, M) their values at the vertices; those taken for zero are zeros. It may be written to.
    least: np.ndarray  # (M,) what counts as zero of each
    operator: int  # number of the operator whose boundaries their zero sets are
    units: np.ndarray  # (M,) its units
    # (cells, functions), sorted by cell: only these are divided by those; None for all.
    pairs: tuple[np.ndarray, np.ndarray] | None = None

    def crossed(self, cells: Complex) -> tuple[np.ndarray, np.ndarray]:
        """Edges with functions of opposite signs at their ends, sorted by edge."""
        if self.pairs is None:
            return Signs.of(self.table).crossed_edges(cells.ends)
        cell, function = self.pairs
        counts = cells.counts[cell]
        sides, which = cells.sides[spans(cells.starts[cell], counts)], owners(counts)
        keys = np.unique(sides * self.table.shape[1] + function[which])
        edge, function = np.divmod(keys, self.table.shape[1])
        a, b = self.table[cells.ends[edge, 0], function], self.table[cells.ends[edge, 1], function]
        opposite = (a > 0) & (b < 0) | (a < 0) & (b > 0)
        return edge[opposite], function[opposite]


@dataclass(frozen=True, eq=False)
class Stage:
    """New vertices, each on a segment between two earlier ones."""

    first: np.ndarray  # (n,) vertex at one end of the segment
    second: np.ndarray  # (n,) vertex at its other end
    at: np.ndarray  # (n,) where the new vertex lies, from 0 at the first to 1 at the second
    vertex: np.ndarray  # (z,) new vertices, counted over the whole complex, at which a function is zero
    function: np.ndarray  # (z,) that function


@dataclass(frozen=True, eq=False)
class Round:
    """What a round of divisions left."""

    cells: Complex  # the new complex; its new vertices come after the old ones, stage after stage
    stages: tuple[Stage, ...]  # how the new vertices were made
    put_off: np.ndarray  # functions that still divide some cell, for the next round


def subdivide(cells: Complex, functions: Functions, tolerance: float) -> Round:
    """Divide cells by zero sets; points closer than the tolerance, a distance in the plane, may become one."""
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
        cells = _name_spokes(cells, functions)
        result = cut(cells, cuts)
    found = find_crossings(result.cells, chords, tolerance)
    kept, apart, put_off = tell_apart(chords, found)
    if len(put_off) and functions.operator != SPOKE:
        # Where many chords pass through one point, taking one a round would take as many rounds.
        hubs = find_hubs(result.cells, chords, found, tolerance)
        if hubs:
            return _draw_hubs(cells, hubs, table.shape[1], tolerance)
    chords, found = kept, apart
    # Two stages of new vertices: the cuts, on edges between old vertices, then the crossings, on chords between cuts.
    first, second = cells.ends.take(cuts.edge.take(cuts.first), 0).T
    stages = [Stage(first, second, cuts.at, count + cuts.vertex, cuts.function)] if len(first) else []
    if not len(chords.start):
        return Round(result.cells, tuple(stages), put_off)
    chains = chain(result.cells, chords, found)
    first, second = (result.cells.corners.take(places.take(found.first)) for places in (chords.start, chords.end))
    start = result.cells.points.take(first, 0)
    points = start + found.on_first[:, None] * (result.cells.points.take(second, 0) - start)
    if len(points):
        crossing = np.concatenate([chains.vertex, chains.vertex])
        stages.append(Stage(first, second, found.on_first, crossing, chords.function.take(found.chord)))
    cells = trace(result.cells, chords, chains, points, functions.operator, functions.units)
    return Round(cells, tuple(stages), put_off)


def _name_spokes(cells: Complex, functions: Functions) -> Complex:
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


def _draw_hubs(cells: Complex, hubs: list[Hub], count: int, tolerance: float) -> Round:
    """A round that draws two spokes through each hub and divides by nothing else; all functions are put off."""
    # Spokes are the zero sets of functions too, each of which divides its own cell only: line 2 i and 2 i + 1 of hub i.
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
        vertex, function = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for hub, line in zip(hubs, lines, strict=True):
            both = np.intersect1d(stage.vertex[stage.function == line], stage.vertex[stage.function == line + 1])
            if len(both):
                vertex.append(np.repeat(both[:1], len(hub.functions)))
                function.append(hub.functions)
        stages.append(replace(stage, vertex=np.concatenate(vertex), function=np.concatenate(function)))
    return Round(done.cells, tuple(stages), np.arange(count))


@dataclass(frozen=True, eq=False)
class Hub:
    """A common point of chords."""

    cell: int  # the cell that it lies in
    point: np.ndarray  # where it lies
    directions: np.ndarray  # (2, 2) of two of the chords, as far from parallel as any
    functions: np.ndarray  # those whose chords pass through it


def find_hubs(cells: Complex, chords: Chords, found: Crossings, tolerance: float) -> list[Hub]:
    """The points through which at least a few chords pass, those with the most first, no two of them close together."""
    found = found.subset(found.reach <= SHARP * tolerance)
    start = cells.points[cells.corners[chords.start]]
    along, length = cells.points[cells.corners[chords.end]] - start, found.length
    # Crossings next to one another along a chord, closer than they are known, are one point. A group of them has as
    # many chords as different ones cross in it.
    place, near = found.order % max(1, len(found.first)), close_along(found)
    group = groups(np.stack([place[:-1], place[1:]], 1)[near], len(found.first))
    keys = np.unique(np.concatenate([group, group]) * len(length) + found.chord)
    label, count = np.unique(keys // max(1, len(length)), return_counts=True)
    hubs: list[Hub] = []
    for number in label[count >= FEW][np.argsort(-count[count >= FEW], kind="stable")][:AT_ONCE]:
        own = np.flatnonzero(group == number)
        cell = int(cells.cell_of[chords.start[found.first[own[0]]]])
        inside = cells.cell_of[chords.start] == cell
        direction = along[inside] / length[inside, None]
        crossing = start[found.first[own]] + found.on_first[own, None] * along[found.first[own]]
        # The median of the crossings is near enough to start from; the fit then looks at all chords of the cell, also
        # those that crossed none of the others here.
        point = _fit(np.median(crossing, axis=0), start[inside], direction, tolerance)
        through = np.abs(cross(direction, point - start[inside])) <= tolerance
        if through.sum() < FEW or not _clear(cells, cell, point, tolerance):
            continue
        if any(np.hypot(*(hub.point - point)) <= SHARP * tolerance for hub in hubs):
            continue
        members = np.zeros(len(length), dtype=bool)
        members[np.flatnonzero(inside)[through]] = True
        # The spokes run along the longest chord, whose direction is known best, and the one most across it.
        ways = direction[through]
        one = ways[length[members].argmax()]
        other = ways[np.abs(cross(ways, one)).argmax()]
        hubs.append(Hub(cell, point, np.stack([one, other]), chords.functions_of(members)))
    return hubs


def _fit(point: np.ndarray, start: np.ndarray, direction: np.ndarray, tolerance: float) -> np.ndarray:
    """The point from which lines lie least far, by sums of distances: lines known badly do not move it."""
    # Least squares, weighted anew in each round by one over the distance, has the least sum of distances as its limit.
    normal = np.stack([-direction[:, 1], direction[:, 0]], 1)
    for _ in range(ROUNDS):
        away = ((point - start) * normal).sum(1)
        near = np.abs(away) <= SHARP * tolerance
        weight = 1 / np.maximum(np.abs(away[near]), 1e-5 * tolerance)
        matrix = (normal[near] * weight[:, None]).T @ normal[near]
        if np.linalg.det(matrix) <= 0:  # all that are near are parallel
            break
        point = point - np.linalg.solve(matrix, normal[near].T @ (weight * away[near]))
    return point


def _clear(cells: Complex, cell: int, point: np.ndarray, tolerance: float) -> bool:
    """Whether a point lies inside a cell, away from its edges: on them a chord ends at a cut, which is a vertex."""
    corners = cells.points[cells.corners[cells.starts[cell] : cells.starts[cell + 1]]]
    step = np.roll(corners, -1, axis=0) - corners
    return bool((cross(step, point - corners) > SHARP * tolerance * np.hypot(*step.T)).all())
