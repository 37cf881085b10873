"""Intervals of a mean over networks and inputs, both of which are samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean difference.

    Attributes:
        mean: Over all seeds and inputs.
        low: Lower end of the 95% interval.
        high: Upper end.
        decided: Whether zero is outside and the mean of each seed has the same sign.
    """

    mean: float
    low: float
    high: float
    decided: bool

    def __str__(self) -> str:
        """The mean and the ends, bold when decided."""
        text = f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"**{text}**" if self.decided else text


def interval(differences: np.ndarray) -> Interval:
    """The mean of paired differences (seeds, inputs), and the percentiles of its bootstrap in both.

    Seeds and inputs are drawn anew, each by itself, and a pair counts as often as its seed times its input was drawn.
    That errs on the wide side.

    Source: A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007.
    """
    seeds, inputs = _drawn(*differences.shape)
    means = np.einsum("di,di->d", seeds @ differences, inputs) / differences.size
    low, high = np.quantile(means, [0.025, 0.975])
    signs = np.sign(differences.mean(1))
    decided = bool((low > 0 or high < 0) and (signs == signs[0]).all())
    return Interval(float(differences.mean()), float(low), float(high), decided)


@lru_cache(maxsize=4)
def _drawn(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each input is drawn, (draws, rows) and (draws, columns)."""
    generator = np.random.default_rng(0)
    seeds = generator.multinomial(rows, np.full(rows, 1 / rows), DRAWS)
    return seeds, generator.multinomial(columns, np.full(columns, 1 / columns), DRAWS)
