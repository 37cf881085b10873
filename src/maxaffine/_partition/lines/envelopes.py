"""Where one of several lines over a piece takes over from another: maxima, and the order of all of them."""

from __future__ import annotations

import torch
from torch import Tensor

PAIRS_AT_ONCE = 2**22


def takeovers(left: Tensor, right: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """The places inside pieces where the largest of several lines changes.

    Every row is a group of lines over one piece; the walk goes from the winner at the left end to whichever line
    overtakes it first, and on, all groups at once.

    Args:
        left: (groups, lines) values at the left ends.
        right: (groups, lines) values at the right ends.
        tolerance: Lines closer than this are one line.

    Returns:
        (group, fraction of the piece) of every change.
    """
    rise = torch.nan_to_num(right - left, nan=0.0, posinf=0.0, neginf=0.0)
    best = left.amax(-1, keepdim=True)
    winner = rise.masked_fill(left < best - tolerance, -torch.inf).argmax(-1, keepdim=True)
    group = torch.arange(len(left), device=left.device)
    groups, fractions = [], []
    while len(group):
        steeper = rise - rise.gather(-1, winner)
        wait = (left.gather(-1, winner) - left) / steeper
        wait = wait.masked_fill((steeper <= tolerance) | wait.isnan(), torch.inf).clamp(min=0)
        first = wait.amin(-1, keepdim=True)
        overtaken = (first < 1)[:, 0]
        winner = rise.masked_fill(wait > first, -torch.inf).argmax(-1, keepdim=True)[overtaken]
        group, left, rise = group[overtaken], left[overtaken], rise[overtaken]
        groups.append(group)
        fractions.append(first[overtaken, 0])
    return _join(groups, fractions, left)


def reorderings(left: Tensor, right: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """The places inside pieces where any two of several lines cross; arguments and result as of :func:`takeovers`."""
    first, second = torch.triu_indices(left.shape[1], left.shape[1], 1, device=left.device)
    groups, fractions = [], []
    step = max(1, PAIRS_AT_ONCE // max(1, len(first)))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        group, fraction = crossings(
            left[part][:, first] - left[part][:, second], right[part][:, first] - right[part][:, second], tolerance
        )[:2]
        groups.append(group + start)
        fractions.append(fraction)
    return _join(groups, fractions, left)


def crossings(left: Tensor, right: Tensor, tolerance: float) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """The places inside pieces where lines cross zero.

    Args:
        left: (pieces, ...) values at the left ends.
        right: (pieces, ...) values at the right ends.
        tolerance: Values up to this large count as zero.

    Returns:
        (piece, fraction of the piece, all indices) of every crossing; an end at zero is none.
    """
    where = torch.nonzero(left * right < 0, as_tuple=True)
    low, high = left[where], right[where]
    apart = (low.abs() > tolerance) & (high.abs() > tolerance)
    where = tuple(index[apart] for index in where)
    low, high = low[apart], high[apart]
    return where[0], low / (low - high), where


def _join(groups: list[Tensor], fractions: list[Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    if not groups:
        return torch.empty(0, dtype=torch.long, device=like.device), like.new_empty(0)
    return torch.cat(groups), torch.cat(fractions)
