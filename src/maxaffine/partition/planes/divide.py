"""Dividing a complex by the boundaries of one piecewise-affine operator."""

from __future__ import annotations

from collections.abc import Callable
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
# beside the largest entry of its operator's input that rounding of sums of such entries leaves as much. Where that
# would take much of the unit, as of a channel that weight decay has all but ended, its own sums are looked at instead.
RELATIVE = 1e-12
ROUNDING = 64 * float(np.finfo(np.float64).eps)
MUCH = 1e-10
Probe = Callable[[], Rows]


@dataclass(frozen=True, eq=False)
class Division:
    """A divided complex.

    Attributes:
        cells: It; its new vertices stand behind the old ones.
        growth: How they were made.
    """

    cells: Complex
    growth: Growth


def divide(cells: Complex, level: Level, rows: Rows, probe: Probe, operator: int, tolerance: float) -> Division:
    """Divide a complex by the boundaries of the operator that follows a level.

    Args:
        cells: The complex.
        level: The level.
        rows: Its values at the vertices.
        probe: Gives its values where nothing cancels.
        operator: Number of the operator.
        tolerance: A distance in the plane.

    Returns:
        The divided complex.
    """
    step = level.step
    if step is None:
        return Division(cells, Growth(len(cells.points), ()))
    if isinstance(step.operator, MaxPool | AxisSelection):
        x = rows[step.inputs[0]]
        size = _largest(x)
        least = zeros_below(size, size, lambda: _largest(probe()[step.inputs[0]])).numpy()
        boundary = Boundary(operator, smallest(step.operator), tolerance)
        cells, stages = divided_by_extremes(cells, x.numpy(), level.windows, least, boundary)
        return Division(cells, Growth(len(x), stages))
    if isinstance(step.operator, Elementwise):
        number = step.inputs[0]
        columns = _knotted(step.operator, number, rows[number], lambda: _largest(probe()[number]))
        return divided_by_columns(cells, *columns, operator, tolerance)
    gap, size = operand_gap(level, rows)
    low, high = gap.amin(0), gap.amax(0)
    least = zeros_below(torch.maximum(-low, high), size, lambda: operand_gap(level, probe())[1])
    table, unit = _active(gap, low, high, 0.0, least)
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


def zeros_below(largest: Tensor, size: Tensor, probe: Callable[[], Tensor]) -> Tensor:
    """What counts as zero of each function.

    Args:
        largest: (K,) the largest magnitude of each.
        size: (K,) the largest entry that it is the difference of.
        probe: Gives (K,) the largest entries where nothing cancels.

    Returns:
        (K,).
    """
    noise = (ROUNDING * size.max()).expand_as(size) if len(size) else size
    doubtful = (largest > 0) & (noise > MUCH * largest)
    if doubtful.any():
        noise = torch.where(doubtful, torch.minimum(noise, ROUNDING * torch.maximum(size, probe())), noise)
    return torch.maximum(RELATIVE * largest, noise)


def _largest(x: Tensor) -> Tensor:
    return torch.maximum(x.amax(0), -x.amin(0))


def _knotted(
    operator: Elementwise, number: int, x: Tensor, probe: Callable[[], Tensor]
) -> tuple[np.ndarray, np.ndarray, Knots]:
    """The entries less each knot, for the units that lie on both sides of it."""
    low, high = x.amin(0), x.amax(0)
    size = torch.maximum(low.abs(), high.abs())
    found = []
    for knot in operator.spline.knots:
        below, above = low - knot, high - knot
        least = zeros_below(torch.maximum(below.abs(), above.abs()), size.clamp(min=abs(knot)), probe)
        found.append(_active(x, below, above, knot, least))
    units = np.concatenate([unit for _, unit in found])
    knots = np.repeat(np.array(operator.spline.knots), [len(unit) for _, unit in found])
    return np.concatenate([table for table, _ in found], 1), units, Knots(number, units, knots)


def _active(x: Tensor, low: Tensor, high: Tensor, knot: float, least: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """X - knot for the units with both signs, what is too small to have a sign set to zero; and which units."""
    unit = torch.nonzero((low < -least) & (high > least)).flatten()
    table = x.index_select(1, unit)
    if knot:
        table -= knot
    table[table.abs() <= least[unit]] = 0
    return table.numpy(), unit.numpy()
