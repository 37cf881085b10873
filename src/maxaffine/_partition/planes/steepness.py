"""How steep a network is on each cell of a plane, from its values at the corners alone.

The integral of a gradient over a cell is that of f n along its rim (Gauss). On a cell f is affine: its mean on a
side is that of the two ends, and its gradient is constant, so the integral is the area times it. Nothing is run again.
"""

from __future__ import annotations

import numpy as np

from maxaffine._partition.planes.complex.cells import Complex

ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of a value at a corner


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
