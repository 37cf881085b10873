"""A value over a plane as bands between exact level sets: round levels, the cells they cut, and the band of each.

An output is affine on every cell, so its level sets are straight there: cutting cells at them gives bands whose borders
are exact, where colors blended from corner to corner would only look exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maxaffine._partition import PlanePartition, Segments

BANDS = 9
FLAT = 1e-12  # of the largest value: a smaller difference counts as none, or rounding would place the levels


@dataclass(frozen=True, eq=False)
class Contours:
    """One output over a plane.

    Attributes:
        low: Its least value on the plane; it is reached at a vertex.
        high: Its largest.
        levels: Round values strictly between, increasing; none of a constant.
        lines: The level set of each.
        bands: The partition, divided further at the levels.
        numbers: (F,) how many levels lie below each cell of ``bands``.
    """

    low: float
    high: float
    levels: tuple[float, ...]
    lines: tuple[Segments, ...]
    bands: PlanePartition
    numbers: np.ndarray

    @property
    def colors(self) -> list[str]:
        """A color per band, from dark, low, to bright, high."""
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        return [to_hex(colormaps["viridis"](place)) for place in np.linspace(0, 1, len(self.levels) + 1).tolist()]

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """The ends of each band."""
        ends = [self.low, *self.levels, self.high]
        return list(zip(ends[:-1], ends[1:], strict=True))


def contours_of(partition: PlanePartition, output: int) -> Contours:
    """Find the level sets of one output at round values.

    Args:
        partition: The plane.
        output: Flat number of the output.

    Returns:
        At most about nine bands.
    """
    from matplotlib.ticker import MaxNLocator

    column = partition.values[:, output].numpy()[np.unique(partition.cells.corners)]
    low, high = float(column.min()), float(column.max())
    flat = high - low <= FLAT * max(abs(low), abs(high))
    ticks = np.zeros(0) if flat else MaxNLocator(nbins=BANDS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    levels = [level for level in sorted({float(f"{tick:.15g}") + 0.0 for tick in ticks}) if low < level < high]
    bands = partition.divided_by_levels(levels, output)
    # Affine on a cell, so the mean over its corners is a value inside it.
    sums = np.add.reduceat(bands.values[:, output].numpy()[bands.cells.corners], bands.cells.starts[:-1])
    numbers = np.searchsorted(levels, sums / bands.cells.counts)
    return Contours(low, high, tuple(levels), tuple(partition.level_sets(levels, output)), bands, numbers)
