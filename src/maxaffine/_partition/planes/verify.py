"""What a partition of a plane is compared at, and the report of it.

Two things can be wrong with a partition: a cell that the network divides further, and two cells that it does not tell
apart. Random points find the first, by codes that are no cell's or another's; codes inside all cells find the second,
as no two may be the same. Where rounding decides a code, close to an edge or in a thin cell, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition.planes.complex import OUTSIDE, Complex, cross
from maxaffine.errors import BadInput

THIN = 1e-9  # of the polygon's size: codes closer than this to a boundary are those of rounding
AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-4}
DIGEST = np.dtype([("high", np.uint64), ("low", np.uint64)])


@dataclass(frozen=True)
class PlaneReport:
    """How a partition compares with the network.

    Attributes:
        regions: Cells whose codes at an interior point were computed: all, or those that hold the points.
        thin: Cells among them so thin that rounding may decide their codes.
        repeated: Cells that share all their codes with another one: with none, as many regions as codes. What was
            divided further, by class or by levels, counts once.
        samples: Random points of the polygon.
        edgy: Points so close to an edge that rounding decides their codes, or whose codes differ from their cell's in
            units alone that are zero up to rounding all over it; they are not compared.
        missed: Other points whose codes are those of no cell.
        misplaced: Other points whose codes are not those of the cell that holds them.
        error: Largest difference between the cells' affine maps and the module at the points, relative to the largest
            output or, where terms cancelled, to those that the worst one is made of; None without a module.
        exact: Whether nothing was repeated, missed or misplaced, and the module agrees.
    """

    regions: int
    thin: int
    repeated: int
    samples: int
    edgy: int
    missed: int
    misplaced: int
    error: float | None
    exact: bool


def random_points(cells: Complex, count: int, seed: int) -> Tensor:
    """(count, 2) points spread evenly over what the rim encloses."""
    if count < 1:
        raise BadInput(f"samples: expected at least 1, got {count}")
    generator = np.random.default_rng(seed)
    rim = np.flatnonzero(cells.operator[cells.sides] == OUTSIDE)
    a, b = cells.points[cells.corners[rim]], cells.points[cells.corners[cells.following[rim]]]
    # The triangles between each side and the middle, each as often as its area says; within one, a point of the square
    # over two of its sides, folded back where it lies beyond the third.
    middle = a.mean(0)
    weight = np.maximum(cross(a - middle, b - middle), 0)
    chosen = generator.choice(len(rim), count, p=weight / weight.sum())
    u, v = generator.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u)[:, None], np.where(u + v > 1, 1 - v, v)[:, None]
    return torch.from_numpy(middle + u * (a[chosen] - middle) + v * (b[chosen] - middle))


def thickness(cells: Complex) -> np.ndarray:
    """(F,) how far the center of each cell lies from its nearest edge."""
    start = cells.points[cells.corners]
    along = start[cells.following] - start
    away = cross(along, cells.centers[cells.cell_of] - start)
    length = np.maximum(np.hypot(*along.T), np.finfo(float).tiny)
    return np.minimum.reduceat(away / length, cells.starts[:-1])
