"""Leaves into one complex: blocks that bordered on an edge cut it on their own, and meet there again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from maxaffine._partition.planes.blocks import Borders, Leaf
from maxaffine._partition.planes.complex import OUTSIDE, Complex, dissolve, owners, places, starts_of


def glue(leaves: Sequence[Leaf], tolerance: float) -> tuple[Complex, np.ndarray | None, np.ndarray]:
    """Join leaves along the edges that they share.

    Args:
        leaves: The leaves.
        tolerance: A vertex of one side of an edge and one of the other closer than this are one; any other vertex of
            one side becomes a corner of the cell on the other side too.

    Returns:
        The whole complex without unused vertices, the values at its vertices, and the level of each cell.
    """
    if len(leaves) == 1 and not len(leaves[0].borders.names) and leaves[0].cells.used.all():
        return leaves[0].cells, leaves[0].values, np.full(len(leaves[0].cells.counts), leaves[0].level)
    whole, names = _stack(leaves)
    used = np.flatnonzero(whole.used)
    _, first, vertex = np.unique(names[used], return_index=True, return_inverse=True)
    number = np.full(len(names), -1)
    number[used] = vertex
    source = used[first]  # a row of the stacked arrays for each vertex
    points = whole.points[source]
    ends, corners = number[whole.ends], number[whole.corners]
    shared = np.flatnonzero(whole.chain >= 0)
    if len(shared):
        borders = Borders.joined([leaf.borders for leaf in leaves])
        chain = np.where(whole.chain >= 0, np.searchsorted(borders.names, whole.chain), -1)
        whole = replace(whole, chain=chain)
        left = np.zeros(len(ends), dtype=bool)
        left[whole.sides] = whole.forward  # a shared edge has one cell in its own leaf
        same, pieces = _meet(points, ends[shared], left[shared], chain[shared], borders.ends, tolerance)
        kept, compact = np.unique(same, return_inverse=True)
        source, points = source[kept], points[kept]
        ends, corners = compact[ends], compact[corners]
        pieces = (pieces[0], compact[pieces[1]])
        whole = _with_pieces(whole, points, ends, corners, shared, pieces)
    else:
        whole = Complex(points, ends, whole.operator, whole.unit, whole.chain, whole.starts, corners, whole.sides)
    values = None
    if leaves and all(leaf.values is not None for leaf in leaves):
        values = np.concatenate([leaf.values for leaf in leaves if leaf.values is not None])[source]
    if len(shared):
        whole, vertices = _without_ends_of_spokes(whole)
        values = None if values is None else values[vertices]
    return whole, values, np.repeat([leaf.level for leaf in leaves], [len(leaf.cells.starts) - 1 for leaf in leaves])


def _without_ends_of_spokes(whole: Complex) -> tuple[Complex, np.ndarray]:
    """The complex without inner vertices at which two edges meet, and the places of the others among all.

    Cells are convex, so that such a vertex lies straight between its neighbors: a spoke ended there, in a block on one
    side of a shared edge, and it stayed since the other side might have had it too.

    Args:
        whole: The complex.

    Returns:
        Both.
    """
    degree = np.bincount(whole.ends.ravel(), minlength=len(whole.points))
    inner = np.ones(len(whole.points), dtype=bool)
    inner[whole.ends[whole.operator == OUTSIDE]] = False
    if not (inner & (degree == 2)).any():
        return whole, np.arange(len(whole.points))
    thinned = dissolve(whole, np.zeros(len(whole.ends), dtype=bool), inner)
    compact, vertices, _ = thinned.cells(np.arange(len(whole.counts)))
    return compact, vertices


def _stack(leaves: Sequence[Leaf]) -> tuple[Complex, np.ndarray]:
    parts = [leaf.cells for leaf in leaves]
    vertices = starts_of(np.array([len(part.points) for part in parts]))
    edges = starts_of(np.array([len(part.ends) for part in parts]))
    counts = np.concatenate([part.counts for part in parts])
    whole = Complex(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.ends + first for part, first in zip(parts, vertices, strict=False)]),
        np.concatenate([part.operator for part in parts]),
        np.concatenate([part.unit for part in parts]),
        np.concatenate([part.chain for part in parts]),
        starts_of(counts),
        np.concatenate([part.corners + first for part, first in zip(parts, vertices, strict=False)]),
        np.concatenate([part.sides + first for part, first in zip(parts, edges, strict=False)]),
    )
    return whole, np.concatenate([leaf.names for leaf in leaves])


def _meet(
    points: np.ndarray, ends: np.ndarray, left: np.ndarray, chain: np.ndarray, chains: np.ndarray, tolerance: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Along each shared edge, which vertices are one, and the vertices in order.

    Args:
        points: Coordinates of the vertices.
        ends: (n, 2) the pieces of shared edges, from both sides.
        left: (n,) whether the piece's cell lies on its left.
        chain: (n,) the shared edge of each.
        chains: Both ends of every shared edge.
        tolerance: A distance.

    Returns:
        For every vertex the one that it becomes; and (chain, vertex) in order along the chains, each vertex once.
    """
    keys, row = np.unique(np.repeat(chain, 2) * len(points) + ends.ravel(), return_inverse=True)
    which, vertex = np.divmod(keys, len(points))
    start, direction = chains[which, 0], chains[which, 1] - chains[which, 0]
    at = ((points[vertex] - start) * direction).sum(1) / np.hypot(*direction.T)
    along = at[row[1::2]] > at[row[::2]]
    sides = np.zeros((len(keys), 2), dtype=bool)
    sides[row, np.repeat(np.where(left == along, 0, 1), 2)] = True
    order = np.lexsort((at, which))
    which, vertex, at, sides = which[order], vertex[order], at[order], sides[order]
    # A vertex of one side and its nearest of the other are twins, however close a side's own vertices are.
    facing = (which[1:] == which[:-1]) & (sides[1:] != sides[:-1]).all(1)
    gap = np.concatenate([[np.inf], np.where(facing, at[1:] - at[:-1], np.inf), [np.inf]])
    close = (gap[:-1] <= tolerance) & (gap[:-1] <= gap[1:])
    close[1:] &= gap[1:-1] < gap[:-2]
    same = np.arange(len(points))
    twins = np.flatnonzero(close)
    same[vertex[twins]] = vertex[twins - 1]
    return same, (which[~close], vertex[~close])


def _with_pieces(
    whole: Complex,
    points: np.ndarray,
    ends: np.ndarray,
    corners: np.ndarray,
    shared: np.ndarray,
    pieces: tuple[np.ndarray, np.ndarray],
) -> Complex:
    """The complex whose shared edges run from each vertex to the next of either side."""
    chain, vertex = pieces
    private = np.flatnonzero(whole.chain < 0)
    last = np.ones(len(chain), dtype=bool)
    last[:-1] = chain[1:] != chain[:-1]
    new = np.flatnonzero(~last)  # a new edge leads from each vertex of a chain but its last to the next
    edge_of = np.full(len(chain), -1)
    edge_of[new] = len(private) + np.arange(len(new))
    keys = chain * len(points) + vertex
    order = np.argsort(keys)

    def position(edges: np.ndarray, end: int) -> np.ndarray:
        wanted = whole.chain[edges] * len(points) + ends[edges, end]
        return order[np.searchsorted(keys[order], wanted)]

    begin, finish = np.zeros(len(ends), dtype=np.int64), np.zeros(len(ends), dtype=np.int64)
    begin[shared], finish[shared] = position(shared, 0), position(shared, 1)
    count = np.ones(len(ends), dtype=np.int64)
    count[shared] = np.abs(finish - begin)[shared]
    number = np.full(len(ends), -1)
    number[private] = np.arange(len(private))
    counts = count[whole.sides]
    half, step = owners(counts), places(counts)
    side = whole.sides[half]
    is_shared = whole.chain[side] >= 0
    there = np.where(whole.forward[half], begin[side], finish[side])
    onward = np.where(whole.forward[half], finish[side], begin[side]) > there
    at = np.where(is_shared, np.where(onward, there + step, there - step), 0)
    sides = np.where(is_shared, edge_of[np.where(onward, at, at - 1)], number[side])
    new_corners = np.where(is_shared, vertex[at], corners[half])
    joined = np.stack([vertex[new], vertex[new + 1]], 1)
    origin = np.zeros(len(new), dtype=np.int64)
    origin[sides[is_shared] - len(private)] = side[is_shared]
    return Complex(
        points,
        np.concatenate([ends[private], joined]),
        np.concatenate([whole.operator[private], whole.operator[origin]]),
        np.concatenate([whole.unit[private], whole.unit[origin]]),
        np.full(len(private) + len(new), -1),
        starts_of(np.add.reduceat(counts, whole.starts[:-1])),
        new_corners,
        sides,
    )
