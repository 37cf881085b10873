"""What decision boundaries and level sets are made of: segments, and the winners of cells.

Outputs are affine on a cell, so what is true at all of its corners is true all over it: a class that wins at every
corner wins everywhere, and no point inside has to be looked at. A boundary is then what lies between cells of two
classes, once the cells in which none wins everywhere have been divided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition.planes.complex import Complex
from maxaffine._partition.planes.divide import too_small
from maxaffine._partition.planes.levels import finite_rows

DECISION, LEVEL = "decision", "level"


@dataclass(frozen=True, eq=False)
class Segments:
    """Pieces of a boundary, each within one cell of the partition or along an edge between two.

    Attributes:
        points: (S, 2, 2) coordinates of both ends.
        cells: (S,) cell that it passes through; of an edge one of the two.
        classes: (S, 2) class on its left and on its right; for a level set 1 above the level and 0 elsewhere.
    """

    points: Tensor
    cells: Tensor
    classes: Tensor

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
