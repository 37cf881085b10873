"""How much of the exact result an approximate search finds."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

_Z95 = 1.959964


@dataclass(frozen=True)
class Recall:
    """How much of the exact result an approximate search finds, measured on a sample of queries.

    Args:
        value: Mean fraction of the k found rows that are no farther than the exact k-th neighbor.
        low: Lower end of the 95% interval (Wilson's score with the queries as trials, which for fractions is cautious).
        high: Its upper end.
        queries: Number of queries, other ones than those that probes and candidates were chosen by.
        k: Neighbors per query.
        probes: Lists that a query looks into.
        lists: Lists that there are.
        candidates: Rows per query that are compared in full.
    """

    value: float
    low: float
    high: float
    queries: int
    k: int
    probes: int
    lists: int
    candidates: int

    @classmethod
    def of(cls, fractions: np.ndarray, k: int, probes: int, candidates: int, lists: int) -> Recall:
        """Summarize the fractions (queries,) that were found."""
        n, p = len(fractions), float(fractions.mean())
        middle, scale = p + _Z95**2 / (2 * n), 1 + _Z95**2 / n
        half = _Z95 * sqrt(p * (1 - p) / n + (_Z95 / (2 * n)) ** 2)
        low, high = max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
        return cls(p, min(low, p), max(high, p), n, k, probes, lists, candidates)

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"recall@{self.k} {self.value:.3f} (95%: {self.low:.3f} to {self.high:.3f}, {self.queries} queries),"
            f" {self.probes} of {self.lists} lists, {self.candidates} candidates"
        )
