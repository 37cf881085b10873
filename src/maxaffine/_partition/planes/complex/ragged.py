"""Rows of different lengths in flat arrays: where row i lies is given by its start and its length.

Cells have different numbers of corners, edges different numbers of cuts. These four are all the index arithmetic that
takes: with them a loop over rows becomes one fancy index.
"""

from __future__ import annotations

import numpy as np


def starts_of(counts: np.ndarray) -> np.ndarray:
    """Where each row starts when rows of these lengths follow one another, and where the last ends: (n + 1,)."""
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def spans(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The places of all entries of rows at ``starts`` of lengths ``counts``, row after row."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)


def owners(counts: np.ndarray) -> np.ndarray:
    """The row of every entry."""
    return np.repeat(np.arange(len(counts)), counts)


def places(counts: np.ndarray) -> np.ndarray:
    """The place of every entry within its row."""
    return spans(np.zeros(len(counts), dtype=np.int64), counts)
