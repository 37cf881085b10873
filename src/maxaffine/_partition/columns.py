"""The smallest and the largest number in every column of a table, which partitions ask of all that they carry."""

import numpy as np
import torch
from torch import Tensor

LONG = 1024  # numbers of a long row


def extremes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of values (N, *units), N at least 1: two tensors (*units)."""
    # Across rows NumPy takes a fifth of the time of PyTorch's aminmax, and less than half of that of amin and amax.
    if rows.is_cpu and rows.dtype in (torch.float32, torch.float64):
        low, high = column_extremes(rows.numpy(force=True))
        return torch.from_numpy(low), torch.from_numpy(high)
    return rows.amin(0), rows.amax(0)


def column_extremes(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a table (N, *units), N at least 1: two arrays (*units)."""
    count, width = len(table), table[0].size
    at_once = LONG // max(1, width)
    if at_once < 2 or count < 4 * at_once:
        return table.min(0), table.max(0)
    # Several short rows as one: to compare rows of a thousand numbers takes a third of the time.
    many = count // at_once * at_once
    long, rest = table[:many].reshape(-1, at_once * width), table[many:]
    low, high = (np.concatenate([side.reshape(at_once, *table.shape[1:]), rest]) for side in (long.min(0), long.max(0)))
    return low.min(0), high.max(0)
