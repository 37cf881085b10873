"""What a partition of a plane is compared at, and the report of it."""

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
    """Points spread evenly over what the rim encloses.

    Args:
        cells: The cells.
        count: How many points.
        seed: For the generator.

    Returns:
        (count, 2).

    Raises:
        BadInput: For no points.
    """
    if count < 1:
        raise BadInput(f"samples: expected at least 1, got {count}")
    generator = np.random.default_rng(seed)
    rim = np.flatnonzero(cells.operator[cells.sides] == OUTSIDE)
    a, b = cells.points[cells.corners[rim]], cells.points[cells.corners[cells.following[rim]]]
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
