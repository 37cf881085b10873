"""What decision boundaries and level sets are made of: segments, winners of cells, values at new vertices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition.planes.complex import Complex
from maxaffine._partition.planes.divide import too_small
from maxaffine._partition.planes.growth import Growth
from maxaffine._partition.planes.levels import bounded

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
    """The class of every cell, and whether it is the same all over.

    Args:
        cells: The cells.
        values: (V, C) outputs at the vertices.

    Returns:
        (F,) the lowest class that wins all over the cell, or the one at its center where none does; and which have one.
    """
    least = too_small(values).max(initial=0.0)
    values = bounded(torch.from_numpy(values)).numpy()
    scores = np.concatenate([-values, values], 1) if values.shape[1] == 1 else values
    wins = scores >= scores.max(1, keepdims=True) - least
    common = np.logical_and.reduceat(wins[cells.corners], cells.starts[:-1])
    means = np.add.reduceat(scores[cells.corners], cells.starts[:-1])
    decided = np.asarray(common.any(1))
    return np.where(decided, common.argmax(1), means.argmax(1)), decided


def grow(values: np.ndarray, growth: Growth) -> np.ndarray:
    """Values (V, C) at the vertices of a complex that has grown."""
    return growth.grown({0: torch.from_numpy(values)})[0].numpy()


def trim(cells: Complex, values: np.ndarray) -> tuple[Complex, np.ndarray]:
    """Without vertices that no cell has."""
    used, corners = np.unique(cells.corners, return_inverse=True)
    number = np.full(len(cells.points), -1)
    number[used] = np.arange(len(used))
    return replace(cells, points=cells.points[used], ends=number[cells.ends], corners=corners), values[used]
