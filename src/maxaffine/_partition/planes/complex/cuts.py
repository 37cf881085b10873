"""First half of a round: edges are cut where functions change sign, and all cells around take the new vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.planes.complex.cells import Complex
from maxaffine._partition.planes.complex.ragged import owners, places, spans, starts_of


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where functions change sign on edges.

    Attributes:
        edge: (n,) edges, increasing.
        function: (n,) functions.
        vertex: (n,) the new vertex, counted from 0; cuts of one edge that coincide share it.
        first: (new,) place in the lists above of the first cut of each new vertex.
        at: (new,) where on its edge each new vertex lies, from 0 at its first end to 1 at its second.
    """

    edge: np.ndarray
    function: np.ndarray
    vertex: np.ndarray
    first: np.ndarray
    at: np.ndarray


def find_cuts(
    cells: Complex, table: np.ndarray, least: np.ndarray, crossed: tuple[np.ndarray, np.ndarray], tolerance: float
) -> Cuts:
    """Locate the crossings of edges and functions.

    A cut closer than the tolerance to an end of its edge becomes a zero at that end (in ``table``, which changes);
    cuts closer than that to each other become one vertex, and so do those of functions so flat along the edge that
    rounding moves their zero farther.

    Args:
        cells: The complex.
        table: (V, M) values of the functions at the vertices.
        least: (M,) what counts as zero of each.
        crossed: Edges and functions of opposite signs at their ends, sorted by edge.
        tolerance: A distance in the plane.

    Returns:
        The cuts.
    """
    edge, function = crossed
    lengths = np.hypot(*(cells.points[cells.ends[:, 1]] - cells.points[cells.ends[:, 0]]).T)
    while True:
        a, b = cells.ends[edge, 0], cells.ends[edge, 1]
        start, end = table[a, function], table[b, function]
        at = start / (start - end)
        near_start, near_end = at * lengths[edge] <= tolerance, (1 - at) * lengths[edge] <= tolerance
        if not (near_start.any() or near_end.any()):
            break
        table[a[near_start], function[near_start]] = 0
        table[b[near_end], function[near_end]] = 0
        kept = (table[a, function] != 0) & (table[b, function] != 0)
        edge, function = edge[kept], function[kept]
    order = np.lexsort((function, at, edge))
    edge, function, at = edge[order], function[order], at[order]
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
    """The complex with its edges cut: as many cells as before, with more corners.

    Attributes:
        cells: The complex; its new vertices come after the old ones.
        places: (old H + 1,) where the pieces of each old half-edge start among the new half-edges.
        pieces: (old E,) in how many pieces each old edge was cut.
    """

    cells: Complex
    places: np.ndarray
    pieces: np.ndarray


def cut(cells: Complex, cuts: Cuts) -> CutComplex:
    """Put the new vertices into the edges and into the cells on both sides of each."""
    count, old = len(cells.points), len(cells.ends)
    edge = cuts.edge[cuts.first]
    pieces = np.bincount(edge, minlength=old) + 1
    offsets = starts_of(pieces)
    a, b = cells.points[cells.ends[edge, 0]], cells.points[cells.ends[edge, 1]]
    points = np.concatenate([cells.points, a + cuts.at[:, None] * (b - a)])
    ends = np.empty((old + len(edge), 2), dtype=np.int64)
    ends[offsets[:-1], 0] = cells.ends[:, 0]
    ends[offsets[1:] - 1, 1] = cells.ends[:, 1]
    # The i-th new vertex of all ends one piece of its edge and starts the next.
    piece = edge + np.arange(len(edge))
    ends[piece, 1] = ends[piece + 1, 0] = count + np.arange(len(edge))
    parent = owners(pieces)
    counts = pieces[cells.sides]
    half, place = owners(counts), places(counts)
    forward, last = cells.forward[half], counts[half] - 1
    sides = offsets[cells.sides[half]] + np.where(forward, place, last - place)
    corners = ends[sides, np.where(forward, 0, 1)]
    starts = starts_of(counts)
    new = Complex(
        points,
        ends,
        cells.operator[parent],
        cells.unit[parent],
        cells.chain[parent],
        starts[cells.starts],
        corners,
        sides,
    )
    return CutComplex(new, starts, pieces)


def incidences(cells: Complex, cuts: Cuts, result: CutComplex) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every cut as each of the cells beside it sees it.

    Args:
        cells: The complex before the cuts.
        cuts: The cuts.
        result: The complex after them.

    Returns:
        The old half-edge, the function, and the new half-edge that starts at the cut.
    """
    per_edge = np.bincount(cuts.edge, minlength=len(cells.ends))
    first = starts_of(per_edge)
    first_vertex = starts_of(result.pieces - 1)
    counts = per_edge[cells.sides]
    half = owners(counts)
    which = spans(first[cells.sides], counts)
    place = cuts.vertex[which] - first_vertex[cells.sides[half]] + 1
    there = np.where(cells.forward[half], place, result.pieces[cells.sides[half]] - place)
    return half, cuts.function[which], result.places[half] + there
