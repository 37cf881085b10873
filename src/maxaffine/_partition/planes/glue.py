"""Leaves into one complex: blocks that bordered on an edge cut it on their own, and meet there again.

Each side of a border has put its own vertices on it, at places that differ by rounding. Going along the border through
the vertices of both sides in order, a vertex of one side and one of the other within the tolerance are one; any other
becomes a corner of the cell on the far side too. Away from borders nothing has to be compared: what leaves share is the
same to the last bit.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from maxaffine._partition.planes.blocks import Leaf
from maxaffine._partition.planes.complex.cells import OUTSIDE, Complex, keys_of, owners, places, starts_of
from maxaffine._partition.planes.complex.faces import dissolve


def glue(leaves: Sequence[Leaf], tolerance: float) -> tuple[Complex, np.ndarray | None, np.ndarray]:
    """The whole complex without unused vertices, the values at its vertices, and the level of each cell."""
    level = np.repeat([leaf.level for leaf in leaves], [len(leaf.cells.counts) for leaf in leaves])
    if len(leaves) == 1:
        return leaves[0].cells, leaves[0].values, level
    whole, borders = _stack(leaves)
    # A vertex is where it lies: leaves that were cut out of one complex have its coordinates to the last bit.
    _, source, number = np.unique(keys_of(whole.points), return_index=True, return_inverse=True)
    points, ends = whole.points[source], number[whole.ends]
    shared = np.flatnonzero(whole.chain >= 0)
    left = np.zeros(len(ends), dtype=bool)
    left[whole.sides] = whole.forward  # a shared edge has one cell in its own leaf
    same, pieces = _meet(points, ends[shared], left[shared], whole.chain[shared], borders, tolerance)
    kept, compact = np.unique(same, return_inverse=True)
    source, number = source[kept], compact[number]
    whole = replace(whole, points=whole.points[source], ends=number[whole.ends], corners=number[whole.corners])
    whole = _with_pieces(whole, shared, pieces[0], compact[pieces[1]])
    # Inner vertices at which two edges meet go. Cells are convex, so that such a vertex lies straight between its
    # neighbors: a spoke ended there, in a block on one side of a shared edge, and it stayed since the other side might
    # have had it too.
    degree = np.bincount(whole.ends.ravel(), minlength=len(whole.points))
    inner = np.ones(len(whole.points), dtype=bool)
    inner[whole.ends[whole.operator == OUTSIDE]] = False
    whole, _ = dissolve(whole, np.zeros(len(whole.ends), dtype=bool), inner & (degree == 2))
    whole, vertices = whole.compact()
    tables = [leaf.values for leaf in leaves if leaf.values is not None]
    values = np.concatenate(tables)[source[vertices]] if len(tables) == len(leaves) else None
    return whole, values, level


def _stack(leaves: Sequence[Leaf]) -> tuple[Complex, np.ndarray]:
    """All leaves as one complex in which they do not touch, and all their borders (n, 2, 2), each once."""
    parts = [leaf.cells for leaf in leaves]
    vertices = starts_of(np.array([len(part.points) for part in parts]))
    edges = starts_of(np.array([len(part.ends) for part in parts]))
    first = starts_of(np.array([len(leaf.borders) for leaf in leaves]))
    # Both sides of a border have remembered the same two ends.
    borders, number = np.unique(np.concatenate([leaf.borders for leaf in leaves]), axis=0, return_inverse=True)
    chain = [np.where(part.chain >= 0, part.chain + offset, -1) for part, offset in zip(parts, first, strict=False)]
    number = np.append(number.ravel(), -1)  # which -1 picks
    whole = Complex(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.ends + offset for part, offset in zip(parts, vertices, strict=False)]),
        np.concatenate([part.operator for part in parts]),
        np.concatenate([part.unit for part in parts]),
        number[np.concatenate(chain)],
        starts_of(np.concatenate([part.counts for part in parts])),
        np.concatenate([part.corners + offset for part, offset in zip(parts, vertices, strict=False)]),
        np.concatenate([part.sides + offset for part, offset in zip(parts, edges, strict=False)]),
    )
    return whole, borders


def _meet(
    points: np.ndarray, ends: np.ndarray, left: np.ndarray, chain: np.ndarray, borders: np.ndarray, tolerance: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """For every vertex the one that it becomes; and (border, vertex) in order along the borders, each vertex once."""
    # Given the pieces of borders from both sides: their ends (n, 2), whether the piece's cell lies on its left, and the
    # border that each is a piece of.
    keys, row = np.unique(np.repeat(chain, 2) * len(points) + ends.ravel(), return_inverse=True)
    which, vertex = np.divmod(keys, len(points))
    start, direction = borders[which, 0], borders[which, 1] - borders[which, 0]
    at = ((points[vertex] - start) * direction).sum(1) / np.hypot(*direction.T)
    # Which sides of its border a vertex belongs to: the left side where its piece runs along the border with its cell
    # on the left, or against it with its cell on the right. Ends of the border belong to both.
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


def _with_pieces(whole: Complex, shared: np.ndarray, chain: np.ndarray, vertex: np.ndarray) -> Complex:
    """The complex whose shared edges run from each vertex (of a border, in order) to the next of either side."""
    private = np.flatnonzero(whole.chain < 0)
    last = np.ones(len(chain), dtype=bool)
    last[:-1] = chain[1:] != chain[:-1]
    new = np.flatnonzero(~last)  # a new edge leads from each vertex of a border but its last to the next
    edge_of = np.full(len(chain), -1)
    edge_of[new] = len(private) + np.arange(len(new))
    # Every half-edge along a border becomes as many as there are steps from its one end to its other, in its own
    # direction, up or down the list of the border's vertices.
    keys = chain * len(whole.points) + vertex
    order = np.argsort(keys)
    wanted = whole.chain[shared, None] * len(whole.points) + whole.ends[shared]
    begin, finish = np.zeros((2, len(whole.ends)), dtype=np.int64)
    begin[shared], finish[shared] = order[np.searchsorted(keys[order], wanted)].T
    count = np.ones(len(whole.ends), dtype=np.int64)
    count[shared] = np.abs(finish - begin)[shared]
    number = np.full(len(whole.ends), -1)
    number[private] = np.arange(len(private))
    counts = count[whole.sides]
    half, step = owners(counts), places(counts)
    side = whole.sides[half]
    is_shared = whole.chain[side] >= 0
    there = np.where(whole.forward[half], begin[side], finish[side])
    onward = np.where(whole.forward[half], finish[side], begin[side]) > there
    at = np.where(is_shared, np.where(onward, there + step, there - step), 0)
    sides = np.where(is_shared, edge_of[np.where(onward, at, at - 1)], number[side])
    corners = np.where(is_shared, vertex[at], whole.corners[half])
    joined = np.stack([vertex[new], vertex[new + 1]], 1)
    # A new edge lies on the boundary of the operator and unit that any piece over it had.
    origin = np.zeros(len(new), dtype=np.int64)
    origin[sides[is_shared] - len(private)] = side[is_shared]
    return Complex(
        whole.points,
        np.concatenate([whole.ends[private], joined]),
        np.concatenate([whole.operator[private], whole.operator[origin]]),
        np.concatenate([whole.unit[private], whole.unit[origin]]),
        np.full(len(private) + len(new), -1),
        starts_of(np.add.reduceat(counts, whole.starts[:-1])),
        corners,
        sides,
    )
