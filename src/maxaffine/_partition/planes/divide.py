"""Dividing a complex by the boundaries of one piecewise-affine operator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isinf

import numpy as np
import torch
from torch import Tensor

from maxaffine._graph import Contest, Knots
from maxaffine._partition.planes.complex import Complex, Functions, subdivide
from maxaffine._partition.planes.extremes import Boundary, divided_by_extremes
from maxaffine._partition.planes.growth import Growth, OnKnots, grown_table
from maxaffine._partition.planes.levels import Level, Rows, bounded, gaps, largest, probes

# A unit is taken for zero at a vertex where it is this small beside its largest value over the complex, or so small
# beside the largest entry of its operator's input that rounding of sums of such entries leaves as much. Where that
# would take much of the unit, as of a channel that weight decay has all but ended, its own sums are looked at instead;
# and so they are where all of the input is so much smaller than what it is made of that it may have cancelled.
RELATIVE = 1e-12
ROUNDING = 64 * float(np.finfo(np.float64).eps)
MUCH = 1e-10
FAINT = 1e-6


@dataclass(frozen=True, eq=False)
class Division:
    """A divided complex.

    Attributes:
        cells: The cells; new vertices come after the old ones.
        growth: How they were made.
    """

    cells: Complex
    growth: Growth


def divide(cells: Complex, level: Level, made: Rows, rows: Rows, operator: int, tolerance: float) -> Division:
    """Divide a complex by the boundaries of the operator that follows a level.

    Args:
        cells: The complex.
        level: The level.
        made: The values at the vertices that it reads.
        rows: Those that it makes of them. Units that count as zero are put on the knots of an operator of one entry.
        operator: Number of the operator.
        tolerance: A distance in the plane.

    Returns:
        The divided complex.
    """
    step, boundaries = level.step, level.boundaries
    if step is None:
        return Division(cells, Growth(len(cells.points), ()))
    sums = _Sums(level, made)
    if isinstance(boundaries, Contest):
        x = rows[step.inputs[0]]
        size = largest(x)
        least = sums.noise(size, size).numpy()
        boundary = Boundary(operator, boundaries.factor < 0, tolerance)
        cells, stages = divided_by_extremes(cells, x.numpy(), level.windows, least, boundary)
        return Division(cells, Growth(len(x), stages))
    if isinstance(boundaries, Knots):
        columns = _knot_columns(boundaries.knots, step.inputs[0], rows[step.inputs[0]], sums)
    else:
        columns = _comparison_columns(level, rows, sums)
    return divided_by_columns(cells, *columns, operator, tolerance)


def divided_by_columns(
    cells: Complex,
    table: np.ndarray,
    least: np.ndarray,
    units: np.ndarray,
    knots: OnKnots | None,
    operator: int,
    tolerance: float,
) -> Division:
    """Divide by every function, in as many rounds as crossings that lie close together make necessary.

    Args:
        cells: The complex.
        table: (V, M) the functions at its vertices, those that count as zero set to zero. It may be written to.
        least: (M,) what counts as zero of each, at new vertices too.
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
        done = subdivide(cells, Functions(table, least[functions], operator, units[functions]), tolerance)
        stages += [replace(stage, function=functions[stage.function]) for stage in done.stages]
        cells = done.cells
        functions = functions[done.put_off]
        if len(functions):
            known = len(table)
            table = grown_table(table[:, done.put_off], done.stages, done.put_off)
            table[known:][np.abs(table[known:]) <= least[functions]] = 0
    return Division(cells, Growth(count, tuple(stages), knots))


def too_small(x: np.ndarray) -> np.ndarray:
    """What counts as zero in each column of values (V, K): (K,)."""
    size = largest(torch.from_numpy(x)).numpy()
    return np.maximum(RELATIVE * size, ROUNDING * size.max(initial=0.0))


@dataclass(frozen=True, eq=False)
class _Sums:
    """How exactly a level's values are known, which are sums of those of the level before.

    Attributes:
        level: The level.
        made: The values at the vertices that it reads.
    """

    level: Level
    made: Rows

    def zeros_below(self, largest: Tensor, size: Tensor, place: int = 0) -> Tensor:
        """What counts as zero of each function of the operator that follows.

        Args:
            largest: (K,) the largest magnitude of each.
            size: (K,) the largest entry that it is the difference of.
            place: Which of the comparisons that every unit makes it is.

        Returns:
            (K,).
        """
        return torch.maximum(RELATIVE * largest, self.noise(largest, size, place))

    def noise(self, largest: Tensor, size: Tensor, place: int = 0) -> Tensor:
        """What rounding may leave of each function, (K,); arguments as of :meth:`zeros_below`."""
        noise = (ROUNDING * size.max()).expand_as(size) if len(size) else size
        faint = (size < FAINT * self._peak()).all()
        doubtful = (largest > 0) & (noise > MUCH * largest)
        if faint or doubtful.any():
            own = ROUNDING * torch.maximum(size, self._probe_sizes(place))
            noise = own if faint else torch.where(doubtful, torch.minimum(noise, own), noise)
        return noise

    def _peak(self) -> float:
        tables = [table for table in self.made.values() if table.is_floating_point() and table.numel()]
        sizes = [float(torch.stack(table.aminmax()).abs().max()) for table in tables]
        # A mask has no size; what is beside it is looked at column by column then.
        sizes = [float(largest(table).max()) if isinf(n) else n for n, table in zip(sizes, tables, strict=True)]
        return max(sizes, default=0.0)

    def _probe_sizes(self, place: int) -> Tensor:
        """(K,) the largest entries where nothing cancels."""
        rows, step = self.level.run(probes(self.made)), self.level.step
        if step is not None and isinstance(self.level.boundaries, Contest | Knots):
            return largest(rows[step.inputs[0]])
        return gaps(self.level, rows)[place][1]


def _comparison_columns(level: Level, rows: Rows, sums: _Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray, None]:
    """What units compare, and what counts as zero of it, for the units that lie on both sides."""
    found = []
    for place, (gap, size) in enumerate(gaps(level, rows)):
        low, high = gap.amin(0), gap.amax(0)
        least = sums.zeros_below(torch.maximum(-low, high), size, place)
        table, unit = _active(gap, low, high, 0.0, least)
        found.append((table, least.numpy()[unit], unit))
    table, least, unit = (np.concatenate(parts, -1) for parts in zip(*found, strict=True))
    return table, least, unit, None


def _knot_columns(
    knots: tuple[float, ...], number: int, x: Tensor, sums: _Sums
) -> tuple[np.ndarray, np.ndarray, np.ndarray, OnKnots]:
    """The entries less each knot and what counts as zero of them, for the units that lie on both sides of it."""
    size = largest(x)
    low, high = bounded(torch.stack((x.amin(0), x.amax(0))))
    found = []
    for knot in knots:
        below, above = low - knot, high - knot
        least = sums.zeros_below(torch.maximum(below.abs(), above.abs()), size.clamp(min=abs(knot)))
        table, unit = _active(x, below, above, knot, least)
        found.append((table, least.numpy()[unit], unit))
    lies_on = np.repeat(np.array(knots), [len(unit) for _, _, unit in found])
    table, least, unit = (np.concatenate(parts, -1) for parts in zip(*found, strict=True))
    return table, least, unit, OnKnots(number, unit, lies_on)


def _active(x: Tensor, low: Tensor, high: Tensor, knot: float, least: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """X - knot for the units with both signs, and which these are; what is too small for a sign is zero, in x too."""
    unit = torch.nonzero((low <= least) & (high >= -least)).flatten()
    table = x.index_select(1, unit)
    if knot:
        table -= knot
    small = np.flatnonzero((table.abs() <= least[unit]).numpy())
    entries = table.numpy().reshape(-1)
    # Where units cancel, noise would be all that a next layer without offsets reads in x.
    noise = small[entries[small] != 0]
    entries[small] = 0
    if len(noise):
        vertex, place = np.divmod(noise, len(unit))
        x[torch.from_numpy(vertex), unit[torch.from_numpy(place)]] = knot
    both = ((low < -least) & (high > least))[unit]
    if not both.all():
        table, unit = table[:, both], unit[both]
    return table.numpy(), unit.numpy()
