"""Which entries of its input each unit of a maximum or minimum selects among."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from maxaffine.graph import AxisSelection, MaxPool, Operator, Value
from maxaffine.partition import windows as pooling

EXTREMES = {"amax": 1, "max": 1, "amin": -1, "min": -1}


def smallest(operator: Operator) -> bool:
    """Whether the smallest entry wins, not the largest."""
    return isinstance(operator, AxisSelection) and EXTREMES[operator.traits.kind] < 0


def windows(operator: Operator, before: Value, after: Value) -> np.ndarray:
    """The entries that each unit selects among; short windows repeat an entry.

    Args:
        operator: The operator.
        before: Its input.
        after: Its output.

    Returns:
        (U, m) flat numbers of entries of one sample.

    Raises:
        TypeError: For an operator that is neither.
    """
    if isinstance(operator, MaxPool):
        return _pooled(operator, before.units, after.units)
    if isinstance(operator, AxisSelection):
        return _along(operator, before)
    raise TypeError(f"{operator.traits.kind} does not select an extreme")


def _along(operator: AxisSelection, value: Value) -> np.ndarray:
    entries = np.arange(prod(value.units))
    axis = value.batch
    if axis is not None:
        inner = (axis.outer > 1) + (axis.inner > 1)
        shape = (*value.units[: axis.dim], axis.outer * axis.inner, *value.units[axis.dim + inner :])
        front = torch.from_numpy(entries).reshape(1, *value.units)
        entries = axis.from_front(front, shape).numpy()
    else:
        entries = entries.reshape(value.units)
    count = len(operator.axes)
    moved = np.moveaxis(entries, operator.axes, range(-count, 0))
    return moved.reshape(-1, prod(moved.shape[-count:]))


def _pooled(operator: MaxPool, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
    sizes = before[-len(operator.window) :]
    index, inside = (item.cpu().numpy() for item in pooling.windows(operator, sizes))
    first = index[np.arange(len(index)), inside.argmax(1)]
    entries = np.where(inside, index, first[:, None])
    planes = np.arange(prod(before[: -len(sizes)])) * prod(sizes)
    return (planes[:, None, None] + entries).reshape(prod(after), -1)
