"""The arithmetic of the code distance, once, for all that compare rows of codes.

d = sum_l share_l m_l / K_l / norm, with the integer count m_l of unequal units

The sum runs in float64 in the operators' order, whoever compares, so that a distance is the same number to the last bit
everywhere: the k smallest are exact, and so are their ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from maxaffine._codes.rows import RowLayout


@dataclass(frozen=True)
class RowMetric:
    """The code distance between rows.

    Args:
        layouts: Every operator's rows.
        shares: w_l / max w per operator.
        faiss: The library that counts where it is installed, or None.
    """

    layouts: tuple[RowLayout, ...]
    shares: tuple[float, ...]
    faiss: Any | None

    @cached_property
    def terms(self) -> list[int]:
        """Positions of the operators that can add to the distance."""
        return [i for i, share in enumerate(self.shares) if share and self.layouts[i].planes]

    @cached_property
    def width(self) -> int:
        """Bytes of one row that are read."""
        return sum(self.layouts[i].width for i in self.terms)

    @cached_property
    def _norm(self) -> float:
        # In the order of the terms, so that no rounding lifts a mean above 1; sum of Python 3.12 rounds otherwise.
        norm = 0.0
        for i in self.terms:
            norm += self.shares[i]
        return norm or 1.0

    def keys(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """Compare all pairs by numbers that order them as their distances do.

        Args:
            a: (Na, width) uint8 of every operator; of those that are no terms, anything.
            b: (Nb, width) uint8, likewise.

        Returns:
            (Na, Nb): counts of unequal units where one operator makes up the distance, else the distances.
        """
        if len(self.terms) == 1:
            return self._unequal(self.terms[0], a, b)
        total = np.zeros((len(a[0]), len(b[0])) if a else (0, 0))
        for i in self.terms:
            part = self._unequal(i, a, b) / self.layouts[i].unit_count
            if self.shares[i] != 1:
                part *= self.shares[i]
            total += part
        if self._norm != 1:
            total /= self._norm
        return total

    def distances(self, keys: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn keys into distances.

        Args:
            keys: Some of those that `keys` returns, in any shape.
            out: Where to write, float64 of that shape; a new array by default.

        Returns:
            The distances, float64.
        """
        if len(self.terms) != 1:
            return np.positive(keys, out=out)
        found = np.divide(keys, self.layouts[self.terms[0]].unit_count, out=out)
        if self._norm != 1:
            found *= self._norm
            found /= self._norm
        return found

    def _unequal(self, i: int, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        return self.layouts[i].unequal_units(a[i], b[i], self.faiss)
