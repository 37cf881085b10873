"""What decision boundaries and level sets are made of: the winners of cells, segments, and bands between round levels.

Outputs are affine on a cell, so what is true at all of its corners is true all over it: a class that wins at every
corner wins everywhere, and no point inside has to be looked at. A boundary is then what lies between cells of two
classes, once the cells in which none wins everywhere have been divided. Level sets are straight on a cell, so that
cutting cells at them gives bands whose borders are exact, where colors blended from corner to corner would only look
exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition.planes.complex.cells import Complex
from maxaffine._partition.planes.divide import too_small
from maxaffine._partition.planes.levels import finite_rows

DECISION, LEVEL = "decision", "level"
BANDS = 9
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
    values = finite_rows(torch.from_numpy(values)).numpy()
    scores = np.concatenate([-values, values], 1) if values.shape[1] == 1 else values
    wins = scores >= scores.max(1, keepdims=True) - least
    common = np.logical_and.reduceat(wins[cells.corners], cells.starts[:-1])
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
