"""Checks of the geometry of a partition of a plane, which every partition passes before it is returned."""

from __future__ import annotations

import numpy as np

from maxaffine._partition.planes.blocks import Borders
from maxaffine._partition.planes.complex import OUTSIDE, Complex, bends, cross
from maxaffine.errors import PartitionError

AREA = 1e-9  # relative, of the sum of all cells
BORDER = 1e-12  # of its length and coordinates: the pieces are that exact


def check_geometry(cells: Complex, tolerance: float, corners: np.ndarray | None = None) -> None:
    """Check that cells fill a polygon, or a part of it with borders, without gap or overlap.

    Args:
        cells: The cells. Edges with a ``chain`` are borders on another part: they have one cell, and Euler's formula,
            which takes a part without holes, is left out.
        tolerance: Points closer than this count as one.
        corners: (n, 2) of the polygon; by default its area is what the rim encloses.

    Raises:
        PartitionError: With the place, when something does not fit.
    """
    _check_sides(cells)
    vertices, edges, faces = int(cells.used.sum()), len(cells.ends), len(cells.counts)
    border = cells.chain >= 0
    if not border.any() and vertices - edges + faces != 1:
        raise PartitionError(f"{vertices} vertices - {edges} edges + {faces} cells is not 1 (Euler's formula)")
    _check_shapes(cells, tolerance)
    rim = np.flatnonzero((border | (cells.operator == OUTSIDE))[cells.sides])
    start, end = cells.points[cells.corners[rim]], cells.points[cells.corners[cells.following[rim]]]
    middle = start.mean(0)  # a small polygon far from the origin keeps its digits
    enclosed = cross(start - middle, end - middle).sum() / 2
    if corners is not None:
        whole = cross(corners - middle, np.roll(corners, -1, 0) - middle).sum() / 2
        if abs(enclosed - whole) > AREA * whole:
            raise PartitionError(f"the rim encloses {enclosed}, the polygon has area {whole}")
    total = cells.areas.sum()
    if abs(total - enclosed) > AREA * enclosed:
        raise PartitionError(f"the cells' areas add up to {total}, their rim encloses {enclosed}")


def check_borders(lengths: np.ndarray, names: np.ndarray, borders: Borders) -> None:
    """Check that the pieces of every border, from both sides, add up to twice its length.

    Args:
        lengths: (n,) of the pieces in all parts.
        names: (n,) the border that each is a piece of.
        borders: All borders.

    Raises:
        PartitionError: With the place, when they do not.
    """
    which = np.minimum(np.searchsorted(borders.names, names), len(borders.names) - 1)
    whole = np.hypot(*(borders.ends[:, 1] - borders.ends[:, 0]).T)
    total = np.bincount(which, lengths, len(whole))
    wrong = np.abs(total - 2 * whole) > BORDER * (whole + float(np.abs(borders.ends).max(initial=0)))
    if wrong.any():
        worst = int(wrong.argmax())
        reason = f"the pieces of a border of length {whole[worst]} add up to {total[worst]} from both sides"
        raise PartitionError(reason, tuple(borders.ends[worst].mean(0).tolist()))


def border_pieces(cells: Complex) -> tuple[np.ndarray, np.ndarray]:
    """The length of every piece of a border, and the border's name."""
    piece = np.flatnonzero(cells.chain >= 0)
    steps = cells.points[cells.ends[piece, 1]] - cells.points[cells.ends[piece, 0]]
    return np.hypot(*steps.T), cells.chain[piece]


def _check_sides(cells: Complex) -> None:
    """Every edge borders on one cell on either side, or on just one on the rim, and cells are closed rings."""
    count = np.bincount(2 * cells.sides + ~cells.forward, minlength=2 * len(cells.ends)).reshape(-1, 2)
    sums = count.sum(1)
    rim = (cells.operator == OUTSIDE) | (cells.chain >= 0)
    wrong = (count > 1).any(1) | (sums != np.where(rim, 1, 2))
    if wrong.any():
        edge = int(np.flatnonzero(wrong)[0])
        raise PartitionError(f"an edge borders on {sums[edge]} cells", _middle(cells, edge))
    ends = cells.ends[cells.sides]
    reached = np.where(cells.forward, ends[:, 1], ends[:, 0])
    begun = np.where(cells.forward, ends[:, 0], ends[:, 1])
    torn = (reached != cells.corners[cells.following]) | (begun != cells.corners)
    if torn.any():
        raise PartitionError("a cell is not closed", _middle(cells, int(cells.sides[torn.argmax()])))


def _check_shapes(cells: Complex, tolerance: float) -> None:
    """Cells have an area, and no corner turns the wrong way by more than the tolerance."""
    if (cells.areas <= 0).any():
        cell = int(cells.areas.argmin())
        raise PartitionError(f"cell {cell} has area {cells.areas[cell]}", tuple(cells.centers[cell].tolist()))
    sag = bends(cells)
    if (sag > 4 * tolerance).any():
        worst = int(sag.argmax())
        place = tuple(cells.points[cells.corners[worst]].tolist())
        raise PartitionError(f"cell {cells.cell_of[worst]} is not convex", place)


def _middle(cells: Complex, edge: int) -> tuple[float, ...]:
    return tuple(cells.points[cells.ends[edge]].mean(0).tolist())
