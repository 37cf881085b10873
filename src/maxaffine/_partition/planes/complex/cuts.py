"""First half of a round: edges are cut where functions change sign, and all cells around take the new vertices.

Whether an edge is cut, and where, is decided once per edge, from the signs at its two ends. Both of its cells then get
the same vertices in the same order, whatever rounding did: neighbors cannot disagree. This is why edges come first and
cells, which read off their chords from the cuts, second.
"""

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.planes.complex.cells import Complex, owners, places, spans, starts_of


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
    edge, function = crossed
    lengths = np.hypot(*(cells.points[cells.ends[:, 1]] - cells.points[cells.ends[:, 0]]).T)
    while True:
        # A function is affine along an edge, so its zero divides the edge as its values at the ends say.
        a, b = cells.ends[edge, 0], cells.ends[edge, 1]
        start, end = table[a, function], table[b, function]
        at = start / (start - end)
        near_start, near_end = at * lengths[edge] <= tolerance, (1 - at) * lengths[edge] <= tolerance
        if not (near_start.any() or near_end.any()):
            break
        # A cut that close to an end is the end itself. The function is then zero there for all edges around it, whose
        # cuts by that function go too; so all are looked at again. Zeros only become more, so this ends.
        table[a[near_start], function[near_start]] = 0
        table[b[near_end], function[near_end]] = 0
        kept = (table[a, function] != 0) & (table[b, function] != 0)
        edge, function = edge[kept], function[kept]
    order = np.lexsort((function, at, edge))
    edge, function, at = edge[order], function[order], at[order]
    # A value is known to its ``least`` only, so the zero of a function that is flat along the edge is known to that
    # over the slope: where this is more than the tolerance, such a cut may join others that lie within it.
    length = lengths[edge]
    fall = np.abs(table[cells.ends[edge, 0], function] - table[cells.ends[edge, 1], function])
    reach = least[function] * length / fall
    flat = reach > tolerance
    if flat.any():
        at = _join(edge, at, length, reach, flat, tolerance)
        order = np.lexsort((function, at, edge))
        edge, function, at = edge[order], function[order], at[order]
        fresh = np.ones(len(edge), dtype=bool)
        fresh[1:] = (edge[1:] != edge[:-1]) | (at[1:] != at[:-1])
    else:
        fresh = _apart(edge, at * length, tolerance)
    first = np.flatnonzero(fresh)
    return Cuts(edge, function, np.cumsum(fresh) - 1, first, at[first])


def _apart(edge: np.ndarray, at: np.ndarray, reach: np.ndarray | float) -> np.ndarray:
    """Which cuts, in order along their edges, lie farther than the reach from the one before."""
    fresh = np.ones(len(edge), dtype=bool)
    fresh[1:] = (edge[1:] != edge[:-1]) | (np.diff(at) > np.broadcast_to(reach, edge.shape)[1:])
    return fresh


def _join(
    edge: np.ndarray, at: np.ndarray, length: np.ndarray, reach: np.ndarray, flat: np.ndarray, tolerance: float
) -> np.ndarray:
    """The place of each cut's vertex, for cuts in order along their edges."""
    # Cuts known to the tolerance come first and are joined among themselves, so that a flat function between two of
    # them does not make them one. Each flat one then joins the nearest of their vertices within its own reach.
    found, solid = at.copy(), np.flatnonzero(~flat)
    fresh = _apart(edge[solid], (at * length)[solid], tolerance)
    found[solid] = at[solid[fresh]][np.cumsum(fresh) - 1]
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
    fresh = _apart(edge[rest], (at * length)[rest], np.maximum(reach[rest], np.roll(reach[rest], 1)))
    found[rest] = at[rest[fresh]][np.cumsum(fresh) - 1]
    return found


@dataclass(frozen=True, eq=False)
class CutComplex:
    """The complex with its edges cut: as many cells as before, with more corners."""

    cells: Complex  # the complex; its new vertices come after the old ones
    places: np.ndarray  # (old H + 1,) where the pieces of each old half-edge start among the new half-edges
    pieces: np.ndarray  # (old E,) in how many pieces each old edge was cut


def cut(cells: Complex, cuts: Cuts) -> CutComplex:
    """Put the new vertices into the edges and into the cells on both sides of each."""
    count, old = len(cells.points), len(cells.ends)
    edge = cuts.edge[cuts.first]
    pieces = np.bincount(edge, minlength=old) + 1
    offsets = starts_of(pieces)  # the pieces of an edge stand together, in the order of the edge
    a, b = cells.points[cells.ends[edge, 0]], cells.points[cells.ends[edge, 1]]
    points = np.concatenate([cells.points, a + cuts.at[:, None] * (b - a)])
    ends = np.empty((old + len(edge), 2), dtype=np.int64)
    ends[offsets[:-1], 0] = cells.ends[:, 0]
    ends[offsets[1:] - 1, 1] = cells.ends[:, 1]
    # The i-th new vertex of all ends one piece of its edge and starts the next.
    piece = edge + np.arange(len(edge))
    ends[piece, 1] = ends[piece + 1, 0] = count + np.arange(len(edge))
    counts = pieces[cells.sides]
    half, place = owners(counts), places(counts)
    # A cell that runs against its edge meets the pieces in reverse.
    forward, last = cells.forward[half], counts[half] - 1
    sides = offsets[cells.sides[half]] + np.where(forward, place, last - place)
    corners = ends[sides, np.where(forward, 0, 1)]
    starts = starts_of(counts)
    new = Complex(points, ends, *cells.marks(owners(pieces)), starts[cells.starts], corners, sides)
    return CutComplex(new, starts, pieces)


def incidences(cells: Complex, cuts: Cuts, result: CutComplex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every cut as each of its cells sees it: old half-edge, function, and the new half-edge that starts at the cut."""
    per_edge = np.bincount(cuts.edge, minlength=len(cells.ends))
    first = starts_of(per_edge)
    first_vertex = starts_of(result.pieces - 1)
    counts = per_edge[cells.sides]
    half = owners(counts)
    which = spans(first[cells.sides], counts)
    # The k-th vertex along an edge starts its k-th piece forward, and the k-th from the end backward.
    place = cuts.vertex[which] - first_vertex[cells.sides[half]] + 1
    there = np.where(cells.forward[half], place, result.pieces[cells.sides[half]] - place)
    return half, cuts.function[which], result.places[half] + there
