"""Where one of several lines over a piece takes over from another: maxima, and the order of all of them.

A line is its values at the left and the right end of its piece; a place is the fraction of the piece before it.
"""

from __future__ import annotations

import torch
from torch import Tensor

PAIRS_AT_ONCE = 2**22


def takeovers(left: Tensor, right: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """(group, place) of every change of the largest line, of lines (groups, lines); closer ones than this are one."""
    # The walk goes from the winner at the left end to whichever line overtakes it first, and on, all groups at once. Of
    # several that tie it is the steepest, which is ahead right after; only steeper ones can overtake, so it ends.
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
    """(group, place) wherever any two of several lines (groups, lines) cross."""
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
    """(piece, place, all indices) wherever lines (pieces, ...) cross zero; an end within the tolerance does not."""
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
