"""The winners of maxima and minima where values that rounding cannot tell apart count as equal: the lowest wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maxaffine.graph import AxisSelection, Choice, MaxPool, fill
from maxaffine.partition.lines.cuts import LARGEST
from maxaffine.partition.windows import windows


def winners(operator: Any, inputs: Sequence[Any], limit: float) -> Tensor | None:
    """The codes of an operator that picks the largest or smallest of several entries.

    Entries that tie identically, as over a flat patch of an image, are computed apart and differ by rounding, in
    whichever way the processor's kernels have it. No change of the winner among them is one.

    Args:
        operator: The operator.
        inputs: Its inputs.
        limit: Values closer than this to the best are as good.

    Returns:
        The codes, as of the operator itself; None for one that picks otherwise.
    """
    if isinstance(operator, Choice):
        first, second = fill(operator.traced.args, inputs)
        return (second - first if operator.largest else first - second) > limit
    if isinstance(operator, MaxPool):
        axes = len(operator.window)
        index, inside = windows(operator, inputs[0].shape[-axes:])
        lines = inputs[0].flatten(-axes)[..., index].masked_fill(~inside, -torch.inf)
        return _lowest_best(lines, limit).unflatten(-1, [len(starts) for starts in operator.starts])
    if isinstance(operator, AxisSelection) and operator.kept is not None and operator.traced.kind in LARGEST:
        found = _lowest_best(LARGEST[operator.traced.kind] * operator.flat(inputs[0]), limit)
        for axis in operator.kept:
            found = found.unsqueeze(axis)
        return found
    return None


def _lowest_best(lines: Tensor, limit: float) -> Tensor:
    """The first entry along the last axis that is within the limit of the largest."""
    return (lines >= lines.amax(-1, keepdim=True) - limit).byte().argmax(-1)
