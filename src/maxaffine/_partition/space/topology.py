"""The shape of the decision boundary: how many pieces it has, how many loops, how many hollows.

The boundary is what lies between cells of two classes, once the cells in which no class wins everywhere have been
divided: a complex of flat pieces, of which every face is known by its corners. Its faces, counted by dimension, give
its Euler characteristic; its pieces are found by what they share; and by Alexander duality what it encloses are the
parts of the rest of space that do not reach the rim. In two and three dimensions nothing else is left to find.
"""

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.space.cells import facets, parts
from maxaffine._partition.space.polytope import scipy
from maxaffine._partition.space.sides import Sides


@dataclass(frozen=True)
class Topology:
    """Of the decision boundary within the box; made by :meth:`maxaffine.partition.Regions.topology`.

    Attributes:
        betti: Betti numbers over two elements: pieces; in two dimensions loops; in three tunnels and hollows. None of
            more dimensions, of which only the first and the last are known.
        euler: The Euler characteristic, their alternating sum.
        faces: How many of each dimension: corners, edges, ...
        pieces: How many connected pieces the boundary has.
        enclosed: How many parts of space it cuts off from the rim of the box.
        domains: By class, how many connected parts of the box it has.
    """

    betti: tuple[int, ...] | None
    euler: int
    faces: tuple[int, ...]
    pieces: int
    enclosed: int
    domains: dict[int, int]


def topology(sides: Sides, classes: np.ndarray) -> Topology:
    """Of what lies between cells (C,) of different classes."""
    cells, size = sides.cells, sides.cells.size
    a, b = classes[sides.cell[sides.pairs]].T
    domain = _components(sides.cell[sides.pairs[a == b]], len(cells))
    open_to = np.unique(domain[sides.cell[sides.rim >= 0]])
    enclosed = int(domain.max(initial=-1)) + 1 - len(open_to)
    faces, pieces = _count(sides, sides.pairs[a != b, 0])
    euler = int(sum((-1) ** dim * count for dim, count in enumerate(faces)))
    first = np.unique(domain, return_index=True)[1]
    owners, counts = np.unique(classes[first], return_counts=True)
    betti = {
        1: lambda: (pieces,),
        2: lambda: (pieces, enclosed),
        3: lambda: (pieces, pieces + enclosed - euler, enclosed),
    }.get(size, lambda: None)()
    return Topology(betti, euler, faces, pieces, enclosed, dict(zip(owners.tolist(), counts.tolist(), strict=True)))


def _count(sides: Sides, chosen: np.ndarray) -> tuple[tuple[int, ...], int]:
    """Faces of each dimension of some sides, and of how many connected pieces they consist."""
    cells = sides.cells
    if not len(chosen):
        return (0,) * cells.size, 0
    wanted = np.zeros((len(cells), cells.tight.shape[1] * 64), dtype=bool)
    wanted[sides.cell[chosen], sides.bit[chosen]] = True
    starts, entry, _, _ = parts(cells.starts, cells.tight, wanted)
    corners, number = np.unique(cells.corner[entry], return_inverse=True)
    # Corners of one side are connected through the first of them.
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    pieces = int(_components(np.stack([number, number[starts[:-1]][owner]], 1), len(corners)).max()) + 1
    names = np.random.default_rng(0).integers(2**64, size=len(cells.table), dtype=np.uint64)
    counts = []
    for _ in range(cells.size - 1):
        counts.append(len(np.unique(np.add.reduceat(names[cells.corner[entry]], starts[:-1]))))
        starts, inner, _, _ = parts(starts, cells.tight[entry], facets(starts, cells.tight[entry]))
        entry = entry[inner]
    return (len(corners), *reversed(counts)), pieces


def _components(pairs: np.ndarray, count: int) -> np.ndarray:
    """(count,) the number of the connected component of each node."""
    graph = scipy("sparse").coo_array((np.ones(len(pairs), dtype=np.int8), tuple(pairs.T)), shape=(count, count))
    return scipy("sparse.csgraph").connected_components(graph, directed=False)[1]
