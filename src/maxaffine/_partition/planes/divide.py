"""Dividing a complex by the boundaries of one piecewise-affine operator.

Where a unit changes its piece is the zero set of a function that is affine on every cell: an entry less a knot, or the
difference of two entries. So an operator becomes a table of such functions at the vertices, and everything after it is
geometry. What the table must decide is which of its small numbers are zeros. A unit that is zero at a vertex in exact
arithmetic comes out of sums as rounding, with a sign of its own; taken at its word, that sign would cut slivers off
cells along a boundary that passes through the vertex. How small is small follows from the sums that the number is made
of.
"""

from dataclasses import dataclass, replace
from math import isinf

import numpy as np

from maxaffine._graph import Contest, Knots
from maxaffine._partition.columns import column_extremes
from maxaffine._partition.planes.complex.cells import Complex
from maxaffine._partition.planes.complex.subdivide import Functions, subdivide
from maxaffine._partition.planes.extremes import Boundary, divide_by_extremes
from maxaffine._partition.planes.growth import Growth, OnKnots, extend_table
from maxaffine._partition.planes.levels import Level, Rows, differences, finite_rows, largest, probes

# A unit is taken for zero at a vertex where it is this small beside its largest value over the complex, or so small
# beside the largest entry of its operator's input that rounding of sums of such entries leaves as much. Where that
# would take much of the unit, as of a channel that weight decay has all but ended, its own sums are looked at instead;
# and so they are where all of the input is so much smaller than what it is made of that it may have cancelled.
RELATIVE = 1e-12
ROUNDING = 64 * float(np.finfo(np.float64).eps)
MUCH = 1e-10
FAINT = 1e-6


def divide(
    cells: Complex, level: Level, before: Rows, rows: Rows, operator: int, tolerance: float
) -> tuple[Complex, Growth]:
    """Divide a complex by the operator that follows a level, which makes ``rows`` of the values ``before``."""
    # New vertices come after the old ones, and their growth says how they were made.
    # Units that count as zero are put on the knots of an operator of one entry, in ``rows`` too.
    step, boundaries = level.step, level.boundaries
    if step is None:
        return cells, Growth(len(cells.points), ())
    sums = _Sums(level, before)
    if isinstance(boundaries, Contest):
        x = level.entries(rows).numpy()
        size = largest(x)
        least = sums.noise(size, size)
        boundary = Boundary(operator, boundaries.factor < 0, tolerance)
        cells, stages = divide_by_extremes(cells, x, level.windows, least, boundary)
        return cells, Growth(len(x), stages)
    return divide_by_columns(cells, *_columns(level, rows, sums), operator, tolerance)


def divide_by_columns(
    cells: Complex,
    table: np.ndarray,
    least: np.ndarray,
    units: np.ndarray,
    knots: OnKnots | None,
    operator: int,
    tolerance: float,
) -> tuple[Complex, Growth]:
    """Divide by functions (V, M) of units (M,), in as many rounds as crossings that lie close together need."""
    # What is at most ``least`` (M,) counts as zero and is a zero in the table, which may be written to; ``knots`` says
    # what is known exactly of the units where a function is zero.
    count, stages = len(cells.points), []
    every = functions = np.arange(table.shape[1])
    while len(functions):
        done = subdivide(cells, Functions(table, least[functions], operator, units[functions]), tolerance)
        # A round counts its functions from 0; stages count those of the whole operator.
        if len(functions) < len(every):
            stages += [replace(stage, function=functions[stage.function]) for stage in done.stages]
        else:
            stages += done.stages
        cells = done.cells
        functions = functions[done.put_off]
        if len(functions):
            # The table goes on at the new vertices, by the same interpolation as all values. What was just made zero by
            # a cut or a crossing is an exact zero; what comes out within the noise counts as one.
            known = len(table)
            table = extend_table(table[:, done.put_off], done.stages, done.put_off)
            table[known:][np.abs(table[known:]) <= least[functions]] = 0
    return cells, Growth(count, tuple(stages), knots)


def too_small(x: np.ndarray) -> np.ndarray:
    """What counts as zero in each column of values (V, K): (K,)."""
    size = largest(x)
    return np.maximum(RELATIVE * size, ROUNDING * size.max(initial=0.0))


@dataclass(frozen=True, eq=False)
class _Sums:
    """How exactly a level's values are known, which are sums of those of the level before."""

    level: Level
    before: Rows  # the values at the vertices that it reads

    def zeros_below(self, largest: np.ndarray, size: np.ndarray, place: int = 0) -> np.ndarray:
        """(K,) what counts as zero of each function of the operator that follows; arguments as of :meth:`noise`."""
        return np.maximum(RELATIVE * largest, self.noise(largest, size, place))

    def noise(self, largest: np.ndarray, size: np.ndarray, place: int = 0) -> np.ndarray:
        """(K,) what rounding may leave of functions up to ``largest``, differences of entries up to ``size``."""
        # ``place`` says which of the comparisons that every unit makes they are.
        if not len(size):
            return size
        # Any entry may be a sum of numbers as large as the largest of its operator's input.
        most = size.max()
        noise = np.full(len(size), ROUNDING * most)
        faint = most < FAINT * self._peak()
        doubtful = (largest > 0) & (noise > MUCH * largest)
        if faint or doubtful.any():
            # At random inputs nothing cancels: the entries there are as large as the sums that each is made of.
            own = ROUNDING * np.maximum(size, self._probe_sizes(place))
            noise = own if faint else np.where(doubtful, np.minimum(noise, own), noise)
        return noise

    def _peak(self) -> float:
        """The largest number among the values before."""
        tables = [table.numpy() for table in self.before.values() if table.is_floating_point() and table.numel()]
        sizes = [max(float(table.max()), -float(table.min())) for table in tables]
        # A mask has no size; what is beside it is looked at column by column then.
        sizes = [float(largest(table).max()) if isinf(n) else n for n, table in zip(sizes, tables, strict=True)]
        return max(sizes, default=0.0)

    def _probe_sizes(self, place: int) -> np.ndarray:
        """(K,) the largest entries where nothing cancels."""
        rows = self.level.run(probes(self.before))
        if isinstance(self.level.boundaries, Contest | Knots):
            return largest(self.level.entries(rows).numpy())
        return differences(self.level, rows)[place][1]


def _columns(level: Level, rows: Rows, sums: _Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray, OnKnots | None]:
    """Entries less knots, or differences, of the units on both sides of zero; what counts as zero, units and knots."""
    step, boundaries, knots = level.step, level.boundaries, ()
    if step is not None and isinstance(boundaries, Knots):
        x, knots = level.entries(rows).numpy(), boundaries.knots
        low, high = column_extremes(x)
        size = np.maximum(high, -low)
        if np.isinf(size).any():
            size = largest(x)
            low, high = finite_rows(np.stack([low, high]))
        compared = [(x, low - knot, high - knot, knot, np.maximum(size, abs(knot))) for knot in knots]
    else:
        compared = [(gap, gap.min(0), gap.max(0), 0.0, size) for gap, size in differences(level, rows)]
    found = []
    for place, (values, low, high, knot, size) in enumerate(compared):
        least = sums.zeros_below(np.maximum(np.abs(low), np.abs(high)), size, place)
        table, unit = _active(values, low, high, knot, least)
        found.append((table, least.take(unit), unit))
    table, least, unit = found[0] if len(found) == 1 else (np.concatenate(x, -1) for x in zip(*found, strict=True))
    if step is None or not knots:
        return table, least, unit, None
    lies_on = np.array(knots).repeat([len(units) for _, _, units in found])
    return table, least, unit, OnKnots(step.inputs[0], unit, lies_on)


def _active(
    x: np.ndarray, low: np.ndarray, high: np.ndarray, knot: float, least: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """X - knot for the units with both signs, and which these are; what is too small for a sign is zero, in x too."""
    # Units of one sign alone divide nothing, and most are: their columns are not even copied. Those of one sign but for
    # small values divide nothing either, but these become exact in x.
    (unit,) = ((low <= least) & (high >= -least)).nonzero()
    table = x.take(unit, 1)
    if knot:
        table -= knot
    entries = table.reshape(-1)
    (small,) = (np.abs(table) <= least.take(unit)).reshape(-1).nonzero()
    # Where units cancel, noise would be all that a next layer without offsets reads in x.
    noise = small[entries[small] != 0]
    if len(small):
        entries[small] = 0
    if len(noise):
        vertex, place = np.divmod(noise, len(unit))
        x[vertex, unit[place]] = knot
    both = ((low < -least) & (high > least)).take(unit)
    if not both.all():
        table, unit = table.compress(both, 1), unit[both]
    return table, unit
