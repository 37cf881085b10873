"""Which entries of its input each unit of a maximum or minimum selects among."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import torch

from maxaffine.graph import AxisSelection, MaxPool, Operator, Value

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
    axes = len(operator.window)
    sizes = before[-axes:]
    ends = _ends(operator, sizes)
    choices = [np.arange(size) for size in operator.window]
    places, valid = [], []
    for axis, (starts, window) in enumerate(zip(operator.starts, choices, strict=True)):
        at = starts.numpy()[:, None] + operator.dilation[axis] * window
        valid.append((at >= 0) & (at < ends[axis][:, None]))
        places.append(at)
    planes = np.arange(prod(before[:-axes])) * prod(sizes)
    found, inside = [], []
    for offsets in product(*choices):
        flat, good = np.zeros((1,) * axes, dtype=np.int64), np.ones((1,) * axes, dtype=bool)
        for axis, offset in enumerate(offsets):
            shape = [-1 if other == axis else 1 for other in range(axes)]
            flat = flat * sizes[axis] + places[axis][:, offset].reshape(shape)
            good = good & valid[axis][:, offset].reshape(shape)
        found.append(flat.ravel())
        inside.append(np.broadcast_to(good, flat.shape).ravel())
    entries, good = np.stack(found, 1), np.stack(inside, 1)
    first = entries[np.arange(len(entries)), good.argmax(1)]
    entries = np.where(good, entries, first[:, None])
    return (planes[:, None, None] + entries).reshape(prod(after), -1)


def _ends(operator: MaxPool, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """Behind the last place of every window, per axis: adaptive windows differ in size."""
    if not operator.traits.kind.startswith("adaptive"):
        return [np.full(len(starts), size) for starts, size in zip(operator.starts, sizes, strict=True)]
    counts = [len(starts) for starts in operator.starts]
    return [-(-np.arange(1, m + 1) * n // m) for n, m in zip(sizes, counts, strict=True)]
