"""The sides of cells, and which two cells share one.

Corners have numbers, and the cells of a continuous network meet side by side: a side of two cells has the very same
corners for both. So sides are compared as sets of numbers, and every side that is neither shared nor on the box's rim
is evidence that something went wrong. Cells of a network that jumps share no corners, and a side may have several
neighbors: those in whose plane it lies and with whose sides it has a ball in common.
"""

from dataclasses import dataclass

import numpy as np

from maxaffine._partition.space.cells import Cells, bits
from maxaffine._partition.space.polytope import SAME, largest_ball


@dataclass(frozen=True, eq=False)
class Sides:
    """All sides of all cells."""

    cells: Cells
    cell: np.ndarray  # (S,) increasing
    bit: np.ndarray  # (S,) among the cell's
    rim: np.ndarray  # (S,) the side of the box on which it lies, upper ones first; -1 within the box
    pairs: np.ndarray  # (pairs, 2) of sides that lie on each other, in two cells

    def corners(self, side: int) -> np.ndarray:
        """The numbers of the corners of a side."""
        of = slice(*self.cells.starts[[self.cell[side], self.cell[side] + 1]])
        return self.cells.corner[of][bits(self.cells.tight[of])[:, self.bit[side]]]

    def plane(self, side: int) -> tuple[np.ndarray, float]:
        """The normal of a side, of length one and outwards, and its distance from the origin along it."""
        places = self.cells.places[self.corners(side)]
        middle = places.mean(0)
        normal = np.linalg.svd(places - middle, full_matrices=True)[2][-1]
        of = slice(*self.cells.starts[[self.cell[side], self.cell[side] + 1]])
        inwards = self.cells.places[self.cells.corner[of]].mean(0) - middle
        normal = -normal if normal @ inwards > 0 else normal
        return normal, float(normal @ middle)

    def of(self, cell: int | np.integer) -> np.ndarray:
        """The numbers of the sides of a cell."""
        return np.arange(np.searchsorted(self.cell, cell), np.searchsorted(self.cell, cell, side="right"))


def sides_of(cells: Cells, low: np.ndarray, high: np.ndarray) -> Sides:
    """The sides of cells that fill a box."""
    held, on, begins, places = cells.sides(), bits(cells.tight), cells.starts[:-1], cells.places
    # A set of corners is known by the sum of their random numbers. Corners between two on a side of the box have its
    # very coordinate.
    names = np.random.default_rng(0).integers(2**64, size=len(places), dtype=np.uint64)[cells.corner]
    rims = np.concatenate([places == high, places == low], 1)[cells.corner]
    name = np.zeros(held.shape, dtype=np.uint64)
    rim = np.full(held.shape, -1)
    for bit in np.flatnonzero(held.any(0)):
        name[:, bit] = np.add.reduceat(np.where(on[:, bit], names, 0), begins)
        there = np.logical_and.reduceat(rims | ~on[:, bit, None], begins, axis=0)
        rim[:, bit] = np.where(there.any(1), there.argmax(1), -1)
    cell, bit = np.nonzero(held)
    name, rim = name[held], rim[held]
    order = np.argsort(name, kind="stable")
    same = np.flatnonzero((name[order[1:]] == name[order[:-1]]) & (rim[order[1:]] < 0))
    return Sides(cells, cell, bit, rim, np.stack([order[same], order[same + 1]], 1))


def touching(sides: Sides) -> np.ndarray:
    """(pairs, 2) sides that lie on each other though they share no corners."""
    loose = sides.rim < 0
    loose[sides.pairs] = False
    planes = [sides.plane(number) for number in range(len(loose))]
    normals, levels = np.array([normal for normal, _ in planes]), np.array([level for _, level in planes])
    places = [sides.cells.places[sides.corners(number)] for number in range(len(loose))]
    lows, middles, highs = (np.array([f(item, 0) for item in places]) for f in (np.min, np.mean, np.max))
    found, ahead = [], np.flatnonzero(loose)
    while len(ahead):
        side, ahead = int(ahead[0]), ahead[1:]
        near = (normals[ahead] @ normals[side] < SAME - 1) & (np.abs(levels[ahead] + levels[side]) <= SAME)
        near &= (lows[ahead] <= highs[side] + SAME).all(1) & (highs[ahead] >= lows[side] - SAME).all(1)
        for other in ahead[near].tolist():
            mine, its = (of[of != n] for n, of in ((n, sides.of(sides.cell[n])) for n in (side, other)))
            # Mostly a plane of one of the two cells has the other's side beyond it, or else a middle lies in both; a
            # linear program looks for a ball of their plane where neither is so.
            apart = any(
                (places[n] @ normals[of].T >= levels[of] - SAME).all(0).any() for n, of in ((side, its), (other, mine))
            )
            rest = np.concatenate([mine, its])
            inside = (middles[[side, other]] @ normals[rest].T < levels[rest] - SAME).all(1).any()
            if inside or not apart and largest_ball(normals[rest], levels[rest], normals[side], levels[side])[1] > SAME:
                found.append((side, other))
    return np.array(found, dtype=np.intp).reshape(-1, 2)
