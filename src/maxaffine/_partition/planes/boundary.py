"""What decision boundaries and level sets are made of: the winners of cells, segments, and bands between round levels.

Outputs are affine on a cell, so what is true at all of its corners is true all over it: a class that wins at every
corner wins everywhere, and no point inside has to be looked at. A boundary is then what lies between cells of two
classes, once the cells in which none wins everywhere have been divided. Level sets are straight on a cell, so that
cutting cells at them gives bands whose borders are exact, where colors blended from corner to corner would only look
exact.

How steep a network is on a cell follows from the corners, too. The integral of a gradient over a cell is that of f n
along its rim (Gauss). On a cell f is affine: its mean on a side is that of the two ends, and its gradient is constant,
so the integral is the area times it. Nothing is run again.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from maxaffine._partition.planes.complex.cells import Complex
from maxaffine._partition.planes.divide import too_small
from maxaffine._partition.planes.levels import finite_rows

DECISION, LEVEL = "decision", "level"
BANDS = 9
ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of a value at a corner
FLAT = 1e-12  # of the largest value: a smaller difference counts as none, or rounding would place the levels
Partition = TypeVar("Partition")


@dataclass(frozen=True, eq=False)
class Segments:
    """Pieces of a boundary, each within one cell of the partition or along an edge between two."""

    points: Tensor  # (S, 2, 2) coordinates of both ends
    cells: Tensor  # (S,) cell that it passes through; of an edge one of the two
    classes: Tensor  # (S, 2) class on its left and on its right; for a level set 1 above the level and 0 elsewhere

    def __len__(self) -> int:
        return len(self.points)

    @property
    def length(self) -> float:
        """Length of all of them."""
        return float((self.points[:, 1] - self.points[:, 0]).norm(dim=1).sum())


def winners(cells: Complex, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F,) the lowest class that wins all over the cell, or the one at its center; and which cells have one."""
    least = too_small(values).max(initial=0.0)
    values = finite_rows(values)
    scores = np.concatenate([-values, values], 1) if values.shape[1] == 1 else values
    wins = scores >= scores.max(1, keepdims=True) - least
    common = np.logical_and.reduceat(wins[cells.corners], cells.starts[:-1])
    # At the center, the mean of the corners, an affine score is the mean (here the sum) of theirs.
    means = np.add.reduceat(scores[cells.corners], cells.starts[:-1])
    decided = np.asarray(common.any(1))
    return np.where(decided, common.argmax(1), means.argmax(1)), decided


@dataclass(frozen=True, eq=False)
class Contours(Generic[Partition]):
    """One output over a plane; made by :meth:`maxaffine._partition.PlanePartition.contours`."""

    low: float  # its least value on the plane; it is reached at a vertex
    high: float  # its largest
    levels: tuple[float, ...]  # round values strictly between, increasing; none of a constant
    lines: tuple[Segments, ...]  # the level set of each
    bands: Partition  # the partition, divided further at the levels
    numbers: np.ndarray  # (F,) how many levels lie below each cell of ``bands``

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """The ends of each band."""
        ends = [self.low, *self.levels, self.high]
        return list(zip(ends[:-1], ends[1:], strict=True))


def round_levels(low: float, high: float) -> list[float]:
    """Round values strictly between two others, at most about nine."""
    from matplotlib.ticker import MaxNLocator

    flat = high - low <= FLAT * max(abs(low), abs(high))
    ticks = np.zeros(0) if flat else MaxNLocator(nbins=BANDS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [level for level in sorted({float(f"{tick:.15g}") + 0.0 for tick in ticks}) if low < level < high]


def norms_by_corners(cells: Complex, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F,) the norm of each cell's slopes over all outputs, and (F,) how far rounding may have moved it."""
    start, end = cells.corners, cells.corners[cells.following]
    normals = (cells.points[end] - cells.points[start])[:, ::-1] * (1, -1)
    squares, largest = np.zeros(len(cells.counts)), np.zeros(len(cells.counts))
    first = np.repeat(start[cells.starts[:-1]], cells.counts)
    for column in values.T:
        # A constant adds nothing along a closed rim; taken off, it does not round either.
        means = (column[start] + column[end]) / 2 - column[first]
        slopes = np.add.reduceat(means[:, None] * normals, cells.starts[:-1]) / cells.areas[:, None]
        squares += (slopes**2).sum(1)
        largest = np.maximum(largest, np.maximum.reduceat(np.abs(column[start]), cells.starts[:-1]))
    # In a sliver the rim is long beside the area, and so is the share of what rounding did to the values.
    rims = np.add.reduceat(np.hypot(*normals.T), cells.starts[:-1])
    return np.sqrt(squares), ROUNDING * np.sqrt(values.shape[1]) * largest * rims / cells.areas
