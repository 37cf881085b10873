"""A value over a plane as bands between exact level sets: round levels, the cells they cut, and the band of each.

An output is affine on every cell, so its level sets are straight there: cutting cells at them gives bands whose borders
are exact, where colors blended from corner to corner would only look exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from maxaffine._partition.planes.boundary import Segments

BANDS = 9
FLAT = 1e-12  # of the largest value: a smaller difference counts as none, or rounding would place the levels
Partition = TypeVar("Partition")


@dataclass(frozen=True, eq=False)
class Contours(Generic[Partition]):
    """One output over a plane; made by :meth:`maxaffine._partition.PlanePartition.contours`.

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
    bands: Partition
    numbers: np.ndarray

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """The ends of each band."""
        ends = [self.low, *self.levels, self.high]
        return list(zip(ends[:-1], ends[1:], strict=True))


def round_levels(low: float, high: float) -> list[float]:
    """Round values strictly between two others, at most about nine."""
    from matplotlib.ticker import MaxNLocator

    flat = high - low <= FLAT * max(abs(low), abs(high))
    ticks = np.zeros(0) if flat else MaxNLocator(nbins=BANDS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [level for level in sorted({float(f"{tick:.15g}") + 0.0 for tick in ticks}) if low < level < high]
