"""How a partition of a plane is checked: its geometry, before it is returned, and its codes, when that is asked for.

A division that rounding led astray shows in the whole: a cell that is missing or there twice breaks Euler's formula or
the sum of the areas, a vertex in the wrong place makes a cell that is not convex. All of this costs far less than the
division, so it is not left to tests.

Two things can be wrong with the cells themselves: one that the network divides further, and two that it does not tell
apart. Random points find the first, by codes that are no cell's or another's; codes inside all cells find the second,
as no two may be the same. Where rounding decides a code, close to an edge or in a thin cell, nothing is said.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition.planes.complex.cells import OUTSIDE, Complex, cross
from maxaffine._partition.planes.complex.faces import bends
from maxaffine.errors import BadInput, PartitionError

THIN = 1e-9  # of the polygon's size: codes closer than this to a boundary are those of rounding
AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-4}
DIGEST = np.dtype([("high", np.uint64), ("low", np.uint64)])
AREA = 1e-9  # relative, of the sum of all cells
BORDER = 1e-12  # of its length and coordinates: the pieces are that exact


def check_geometry(cells: Complex, tolerance: float, corners: np.ndarray | None = None) -> None:
    """Check that cells fill a polygon (n, 2), or a part of it with borders, without gap or overlap."""
    # Edges with a ``chain`` are borders on another part: they have one cell, and Euler's formula, which takes a part
    # without holes, is left out.
    _check_sides(cells)
    vertices, edges, faces = int(np.count_nonzero(cells.used)), len(cells.ends), len(cells.counts)
    border = cells.chain >= 0
    if not border.any() and vertices - edges + faces != 1:
        raise PartitionError(f"{vertices} vertices - {edges} edges + {faces} cells is not 1 (Euler's formula)")
    _check_shapes(cells, tolerance)
    (rim,) = (border | (cells.operator == OUTSIDE)).take(cells.sides).nonzero()
    start, end = (cells.points.take(cells.corners.take(half), 0) for half in (rim, cells.following.take(rim)))
    middle = start.mean(0)  # a small polygon far from the origin keeps its digits
    enclosed = cross(start - middle, end - middle).sum() / 2
    if corners is not None:
        whole = cross(corners - middle, corners.take(range(1 - len(corners), 1), 0) - middle).sum() / 2
        if abs(enclosed - whole) > AREA * whole:
            raise PartitionError(f"the rim encloses {enclosed}, the polygon has area {whole}")
    total = cells.areas.sum()
    if abs(total - enclosed) > AREA * enclosed:
        raise PartitionError(f"the cells' areas add up to {total}, their rim encloses {enclosed}")


def check_borders(borders: np.ndarray, lengths: np.ndarray) -> None:
    """Check that the pieces of every border, of both of its sides, add up to twice its length."""
    # Every part names its borders (n, 2, 2) and the length of its pieces of each, so that a border stands there twice.
    ends, which = np.unique(borders, axis=0, return_inverse=True)
    whole = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    total = np.bincount(which.ravel(), lengths, len(whole))
    wrong = np.abs(total - 2 * whole) > BORDER * (whole + float(np.abs(ends).max(initial=0)))
    if wrong.any():
        worst = int(wrong.argmax())
        reason = f"the pieces of a border of length {whole[worst]} add up to {total[worst]} from both sides"
        raise PartitionError(reason, tuple(ends[worst].mean(0).tolist()))


def border_lengths(cells: Complex, borders: int) -> np.ndarray:
    """How long the pieces of each of so many borders are together."""
    piece = np.flatnonzero(cells.chain >= 0)
    steps = cells.points[cells.ends[piece, 1]] - cells.points[cells.ends[piece, 0]]
    return np.bincount(cells.chain[piece], np.hypot(*steps.T), borders)


def _check_sides(cells: Complex) -> None:
    """Every edge borders on one cell on either side, or on just one on the rim, and cells are closed rings."""
    place = 2 * cells.sides + ~cells.forward  # of the first end of each half-edge among the ends of all edges
    count = np.bincount(place, minlength=2 * len(cells.ends))
    sums = count[::2] + count[1::2]
    rim = (cells.operator == OUTSIDE) | (cells.chain >= 0)
    wrong = sums + rim != 2
    if wrong.any() or (count > 1).any():
        edge = int((wrong | (count.reshape(-1, 2) > 1).any(1)).argmax())
        raise PartitionError(f"an edge borders on {sums[edge]} cells", _middle(cells, edge))
    begun, reached = (cells.ends.reshape(-1).take(end) for end in (place, place ^ 1))
    torn = (reached != cells.corners.take(cells.following)) | (begun != cells.corners)
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
    """Where an edge lies."""
    return tuple(cells.points[cells.ends[edge]].mean(0).tolist())


@dataclass(frozen=True)
class PlaneReport:
    """How a partition compares with the network."""

    regions: int  # cells whose codes at an interior point were computed: all, or those that hold the points
    thin: int  # cells among them so thin that rounding may decide their codes
    # Cells that share all their codes with another one: with none, as many regions as codes. What was divided further,
    # by class or by levels, counts once.
    repeated: int
    samples: int  # random points of the polygon
    # Points so close to an edge that rounding decides their codes, or whose codes differ from their cell's in units
    # alone that are zero up to rounding all over it; they are not compared.
    edgy: int
    missed: int  # other points whose codes are those of no cell
    misplaced: int  # other points whose codes are not those of the cell that holds them
    # Largest difference between the cells' affine maps and the module at the points, relative to the largest output or,
    # where terms cancelled, to those that the worst one is made of; None without a module.
    error: float | None
    exact: bool  # whether nothing was repeated, missed or misplaced, and the module agrees


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
