"""Which entries of its plane each window of a max-pooling reads."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from maxaffine.graph import MaxPool


def windows(operator: MaxPool, plane: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The flat indices of every window's places, and which of the places it has.

    Args:
        operator: The max-pooling.
        plane: Sizes of the spatial axes of its input.

    Returns:
        index: (windows, places) flat indices into the plane.
        inside: (windows, places) bool; the others lie in the padding, or behind the end of an adaptive window.
    """
    count = prod(len(starts) for starts in operator.starts)
    device = operator.starts[0].device
    index = torch.zeros(count, prod(operator.window), dtype=torch.long, device=device)
    inside = torch.ones_like(index, dtype=torch.bool)
    axes = len(plane)
    for axis, (starts, size, dilation) in enumerate(zip(operator.starts, plane, operator.dilation, strict=True)):
        places = starts[:, None] + dilation * torch.arange(operator.window[axis], device=device)
        good = (places >= 0) & (places < _ends(operator, starts, size)[:, None])
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = places.shape
        full = (*(len(s) for s in operator.starts), *operator.window)
        index = index * size + places.clamp(0, size - 1).view(shape).expand(full).reshape(index.shape)
        inside &= good.view(shape).expand(full).reshape(index.shape)
    return index, inside


def _ends(operator: MaxPool, starts: Tensor, size: int) -> Tensor:
    """The first coordinate behind each window: of an adaptive one ceil((i + 1) n / m)."""
    if not operator.traced.kind.startswith("adaptive"):
        return torch.full_like(starts, size)
    count = len(starts)
    return -(-(torch.arange(count, device=starts.device) + 1) * size // count)
