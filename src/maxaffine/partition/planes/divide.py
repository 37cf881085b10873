"""Dividing a complex by the boundaries of one piecewise-affine operator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from maxaffine.graph import AxisSelection, Elementwise, MaxPool
from maxaffine.partition.planes.complex import Complex, Functions, subdivide
from maxaffine.partition.planes.extremes import Boundary, divided_by_extremes
from maxaffine.partition.planes.growth import Growth, Knots, grown_table
from maxaffine.partition.planes.levels import Level, Rows, operand_gap
from maxaffine.partition.planes.windows import smallest

# A unit is taken for zero at a vertex where it is this small beside its largest value over the complex, or so small
# beside the largest entry of its operator's input that rounding of sums of such entries leaves as much.
RELATIVE = 1e-12
ROUNDING = 64 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Division:
    """A divided complex.

    Attributes:
        cells: It; its new vertices stand behind the old ones.
        growth: How they were made.
    """

    cells: Complex
    growth: Growth


def divide(cells: Complex, level: Level, rows: Rows, operator: int, tolerance: float) -> Division:
    """Divide a complex by the boundaries of the operator that follows a level.

    Args:
        cells: The complex.
        level: The level.
        rows: Its values at the vertices.
        operator: Number of the operator.
        tolerance: A distance in the plane.

    Returns:
        The divided complex.
    """
    step = level.step
    if step is None:
        return Division(cells, Growth(len(cells.points), ()))
    if isinstance(step.operator, MaxPool | AxisSelection):
        x = rows[step.inputs[0]].numpy()
        boundary = Boundary(operator, smallest(step.operator), tolerance)
        cells, stages = divided_by_extremes(cells, x, level.windows, too_small(x), boundary)
        return Division(cells, Growth(len(x), stages))
    if isinstance(step.operator, Elementwise):
        columns = _knotted(step.operator, step.inputs[0], rows[step.inputs[0]])
        return divided_by_columns(cells, *columns, operator, tolerance)
    gap, scale = operand_gap(level, rows)
    table, unit = _active(gap, gap.amin(0), gap.amax(0), 0.0, scale)
    return divided_by_columns(cells, table, unit, None, operator, tolerance)


def divided_by_columns(
    cells: Complex, table: np.ndarray, units: np.ndarray, knots: Knots | None, operator: int, tolerance: float
) -> Division:
    """Divide by every function, in as many rounds as crossings that lie close together make necessary.

    Args:
        cells: The complex.
        table: (V, M) the functions at its vertices, those that count as zero set to zero. It may be written to.
        units: (M,) the unit that each belongs to.
        knots: What is known exactly of the units where a function is zero.
        operator: Number of the operator.
        tolerance: A distance in the plane.

    Returns:
        The divided complex.
    """
    count, stages = len(cells.points), []
    functions = np.arange(table.shape[1])
    while len(functions):
        done = subdivide(cells, Functions(table, operator, units[functions]), tolerance)
        stages += [replace(stage, function=functions[stage.function]) for stage in done.stages]
        cells = done.cells
        table = grown_table(table[:, done.put_off], done.stages, done.put_off) if len(done.put_off) else table
        functions = functions[done.put_off]
    return Division(cells, Growth(count, tuple(stages), knots))


def too_small(x: np.ndarray) -> np.ndarray:
    """What counts as zero in each column of values (V, K): (K,)."""
    largest = np.abs(x).max(0)
    return np.maximum(RELATIVE * largest, ROUNDING * largest.max(initial=0.0))


def _knotted(operator: Elementwise, number: int, x: Tensor) -> tuple[np.ndarray, np.ndarray, Knots]:
    """The entries less each knot, for the units that lie on both sides of it."""
    low, high = x.amin(0), x.amax(0)
    scale = float(torch.maximum(low.abs(), high.abs()).max())
    found = [_active(x, low - knot, high - knot, knot, max(scale, abs(knot))) for knot in operator.spline.knots]
    units = np.concatenate([unit for _, unit in found])
    knots = np.repeat(np.array(operator.spline.knots), [len(unit) for _, unit in found])
    return np.concatenate([table for table, _ in found], 1), units, Knots(number, units, knots)


def _active(x: Tensor, low: Tensor, high: Tensor, knot: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """X - knot for the units with both signs, what is too small to have a sign set to zero; and which units."""
    least = torch.clamp(RELATIVE * torch.maximum(low.abs(), high.abs()), min=ROUNDING * scale)
    unit = torch.nonzero((low < -least) & (high > least)).flatten()
    table = x.index_select(1, unit)
    if knot:
        table -= knot
    table[table.abs() <= least[unit]] = 0
    return table.numpy(), unit.numpy()
