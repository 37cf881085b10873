"""First half of a round: edges are cut where functions change sign, and all cells around take the new vertices.

Whether an edge is cut, and where, is decided once per edge, from the signs at its two ends. Both of its cells then get
the same vertices in the same order, whatever rounding did: neighbors cannot disagree. This is why edges come first and
cells, which read off their chords from the cuts, second.
"""

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.planes.complex.cells import (
    Complex,
    fresh,
    lengths_of,
    order_along,
    owners,
    spans,
    starts_of,
)


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where functions change sign on edges."""

    edge: np.ndarray  # (n,) edges, increasing
    function: np.ndarray  # (n,) functions
    vertex: np.ndarray  # (n,) the new vertex, counted from 0; cuts of one edge that coincide share it
    first: np.ndarray  # (new,) place in the lists above of the first cut of each new vertex
    at: np.ndarray  # (new,) where on its edge each new vertex lies, from 0 at its first end to 1 at its second


def find_cuts(
    cells: Complex, table: np.ndarray, least: np.ndarray, crossed: tuple[np.ndarray, np.ndarray], tolerance: float
) -> Cuts:
    """Where each function of the table (V, M) changes sign on the edges that it crosses; the table may get zeros."""
    edge, function = crossed  # by edge, then by function
    a, b = cells.ends.take(edge, 0).T
    start, end = table[a, function], table[b, function]
    length = lengths_of(cells.points.take(b, 0) - cells.points.take(a, 0))
    while True:
        # A function is affine along an edge, so its zero divides the edge as its values at the ends say.
        at = start / (start - end)
        near = np.minimum(at, 1 - at) * length <= tolerance
        if not near.any():
            break
        # A cut that close to an end is the end itself. The function is then zero there for all edges around it, whose
        # cuts by that function go too; so all are looked at again. Zeros only become more, so this ends.
        for vertex, share in ((a, at), (b, 1 - at)):
            there = share * length <= tolerance
            table[vertex[there], function[there]] = 0
        kept = (table[a, function] != 0) & (table[b, function] != 0)
        edge, function, a, b, start, end, length = (x[kept] for x in (edge, function, a, b, start, end, length))
    order = order_along(edge, at)
    edge, function, at, length = edge.take(order), function.take(order), at.take(order), length.take(order)
    # A value is known to its ``least`` only, so the zero of a function that is flat along the edge is known to that
    # over the slope: where this is more than the tolerance, such a cut may join others that lie within it.
    reach = least.take(function) * length / np.abs(start - end).take(order)
    flat = reach > tolerance
    if flat.any():
        at = _join(edge, at, length, reach, flat, tolerance)
        order = np.lexsort((function, at, edge))
        edge, function, at = edge[order], function[order], at[order]
        apart = fresh(edge, at)
    else:
        apart = _apart(edge, at * length, tolerance)
    (first,) = apart.nonzero()
    return Cuts(edge, function, apart.cumsum() - 1, first, at.take(first))


def _apart(edge: np.ndarray, at: np.ndarray, reach: np.ndarray | float) -> np.ndarray:
    """Which cuts, in order along their edges, lie farther than the reach from the one before."""
    apart = fresh(edge)
    apart[1:] |= at[1:] - at[:-1] > (reach[1:] if isinstance(reach, np.ndarray) else reach)
    return apart


def _join(
    edge: np.ndarray, at: np.ndarray, length: np.ndarray, reach: np.ndarray, flat: np.ndarray, tolerance: float
) -> np.ndarray:
    """The place of each cut's vertex, for cuts in order along their edges."""
    # Cuts known to the tolerance come first and are joined among themselves, so that a flat function between two of
    # them does not make them one. Each flat one then joins the nearest of their vertices within its own reach.
    found, solid = at.copy(), np.flatnonzero(~flat)
    apart = _apart(edge[solid], (at * length)[solid], tolerance)
    found[solid] = at[solid[apart]][np.cumsum(apart) - 1]
    count = len(edge)
    place = np.arange(count)
    # The last solid cut before each one, and the next after it; at the ends of the list there may be none.
    before = np.maximum.accumulate(np.where(flat, -1, place))
    after = np.minimum.accumulate(np.where(flat, count, place)[::-1])[::-1]
    left = flat.copy()
    best = np.full(count, np.inf)
    for near in (before, after):
        other = np.clip(near, 0, count - 1)
        gap = np.where((near == other) & (edge[other] == edge), np.abs(at - found[other]) * length, np.inf)
        joins = flat & (gap <= reach) & (gap < best)
        found[joins], best[joins], left[joins] = found[other[joins]], gap[joins], False
    # Those that are left join each other.
    rest = np.flatnonzero(left)
    apart = _apart(edge[rest], (at * length)[rest], np.maximum(reach[rest], np.roll(reach[rest], 1)))
    found[rest] = at[rest[apart]][np.cumsum(apart) - 1]
    return found


@dataclass(frozen=True, eq=False)
class CutComplex:
    """The complex with its edges cut: as many cells as before, with more corners."""

    cells: Complex  # the complex; its new vertices come after the old ones
    places: np.ndarray  # (old H + 1,) where the pieces of each old half-edge start among the new half-edges


def cut(cells: Complex, cuts: Cuts) -> CutComplex:
    """Put the new vertices into the edges and into the cells on both sides of each."""
    count, old = len(cells.points), len(cells.ends)
    edge = cuts.edge.take(cuts.first)
    pieces = np.bincount(edge, minlength=old) + 1
    offsets = starts_of(pieces)  # the pieces of an edge stand together, in the order of the edge
    a, b = (cells.points.take(end, 0) for end in cells.ends.take(edge, 0).T)
    points = np.concatenate([cells.points, a + cuts.at[:, None] * (b - a)])
    ends = np.empty((old + len(edge), 2), dtype=np.int64)
    ends[offsets[:-1], 0] = cells.ends[:, 0]
    ends[offsets[1:] - 1, 1] = cells.ends[:, 1]
    # The i-th new vertex of all ends one piece of its edge and starts the next.
    piece = edge + np.arange(len(edge))
    ends[piece, 1] = ends[piece + 1, 0] = count + np.arange(len(edge))
    counts = pieces.take(cells.sides)
    starts, half = starts_of(counts), owners(counts)
    # A cell that runs along its edge meets the pieces in their order, one that runs against it in reverse: ``place`` is
    # that of a piece's first end, as the cell meets it, among the ends of all pieces.
    step = 4 * cells.forward - 2
    first = offsets.take(cells.sides) * 2 + np.where(cells.forward, 0, 2 * counts - 1)
    place = (first - step * starts[:-1]).take(half) + step.take(half) * np.arange(len(half))
    corners, sides = ends.reshape(-1).take(place), place >> 1
    new = Complex(points, ends, *cells.marks(owners(pieces)), starts.take(cells.starts), corners, sides)
    return CutComplex(new, starts)


def incidences(cells: Complex, cuts: Cuts, result: CutComplex) -> tuple[np.ndarray, np.ndarray]:
    """Every cut as each of its cells sees it: its function, and the new half-edge that starts at it."""
    (position,) = (result.cells.corners >= len(cells.points)).nonzero()
    which = result.cells.corners.take(position) - len(cells.points)
    if len(cuts.first) < len(cuts.edge):  # some vertices are cuts of several functions
        begin, counts = cuts.first.take(which), np.diff(cuts.first, append=len(cuts.edge)).take(which)
        position, which = position.repeat(counts), spans(begin, counts)
    return cuts.function.take(which), position
