"""Where each operator changes its piece between the two ends of a stretch on which its inputs are affine.

On a stretch everything that an operator compares is a line, known by its values at both ends, and a place is the
fraction of the stretch before it. So each of the three families of boundaries becomes a question about lines: where one
crosses zero, where the largest of several is overtaken, where two of several change places. Too many answers do no
harm: a cut at which no code changes is dropped in the end.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._graph import Comparisons, Order, Step
from maxaffine._partition.inputs import known_boundaries

PAIRS_AT_ONCE = 2**22
Cuts = tuple[Tensor, Tensor]  # stretch, and the fraction of it


def cuts(step: Step, sides: Sequence[list[Any]], owner: Tensor, tolerance: float) -> list[Cuts]:
    """The places inside stretches where a unit of a step changes its piece (possibly more, never fewer), in parts."""
    # ``sides`` are the step's inputs at the left and the right ends of the stretches, in its own layout; ``owner`` is
    # the stretch of every entry of its first output; differences up to the tolerance count as zero.
    boundaries = known_boundaries(step)
    if isinstance(boundaries, Comparisons):
        found = []
        for left, right in zip(*map(boundaries.pairs, sides), strict=True):
            _, fraction, where = crossings(left.difference(), right.difference(), tolerance)
            found.append((owner[where], fraction))
        return found
    if boundaries.order is Order.LARGEST:
        # A maximum of lines is convex, so where it equals one line at both ends it is that line: only the units whose
        # winners differ between the ends are looked at.
        before, after = (step.operator.codes(inputs, step.operator(*inputs)) for inputs in sides)
        places = torch.nonzero(before != after, as_tuple=True)
        left, right = (boundaries.scores_at(inputs[0], places) for inputs in sides)
        unit, fraction = takeovers(left, right, tolerance)
        return [(owner[places][unit], fraction)]
    left, right = (boundaries.scores(inputs[0]).flatten(0, -2) for inputs in sides)
    group, fraction = reorderings(left, right, tolerance)
    # The units along the axis share one group of entries, and so one stretch.
    owner = owner if boundaries.axis is None else owner.movedim(boundaries.axis, -1)[..., 0]
    return [(owner.reshape(-1)[group], fraction)]


def crossings(left: Tensor, right: Tensor, tolerance: float) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """(piece, place, all indices) wherever lines (pieces, ...) cross zero; an end within the tolerance does not."""
    where = torch.nonzero(left * right < 0, as_tuple=True)
    low, high = left[where], right[where]
    apart = (low.abs() > tolerance) & (high.abs() > tolerance)
    where = tuple(index[apart] for index in where)
    low, high = low[apart], high[apart]
    return where[0], low / (low - high), where


def takeovers(left: Tensor, right: Tensor, tolerance: float) -> Cuts:
    """(group, place) of every change of the largest line, of lines (groups, lines); closer ones than this are one."""
    # The walk goes from the winner at the left end to whichever line overtakes it first, and on, all groups at once. Of
    # several that tie it is the steepest, which is ahead right after; only steeper ones can overtake, so it ends.
    rise = torch.nan_to_num(right - left, nan=0.0, posinf=0.0, neginf=0.0)
    best = left.amax(-1, keepdim=True)
    winner = rise.masked_fill(left < best - tolerance, -torch.inf).argmax(-1, keepdim=True)
    group = torch.arange(len(left), device=left.device)
    groups, fractions = [group[:0]], [left.new_empty(0)]
    while len(group):
        # A line ahead by so much that rises so much slower is level with the other after the quotient of both; what
        # does not rise faster never is.
        steeper = rise - rise.gather(-1, winner)
        wait = (left.gather(-1, winner) - left) / steeper
        wait = wait.masked_fill((steeper <= tolerance) | wait.isnan(), torch.inf).clamp(min=0)
        first = wait.amin(-1, keepdim=True)
        overtaken = (first < 1)[:, 0]
        winner = rise.masked_fill(wait > first, -torch.inf).argmax(-1, keepdim=True)[overtaken]
        group, left, rise = group[overtaken], left[overtaken], rise[overtaken]
        groups.append(group)
        fractions.append(first[overtaken, 0])
    return torch.cat(groups), torch.cat(fractions)


def reorderings(left: Tensor, right: Tensor, tolerance: float) -> Cuts:
    """(group, place) wherever any two of several lines (groups, lines) cross."""
    first, second = torch.triu_indices(left.shape[1], left.shape[1], 1, device=left.device)
    groups, fractions = [first[:0]], [left.new_empty(0)]
    for part in slices(len(left), PAIRS_AT_ONCE // max(1, len(first))):
        low, high = (side[part][:, first] - side[part][:, second] for side in (left, right))
        group, fraction, _ = crossings(low, high, tolerance)
        groups.append(group + part.start)
        fractions.append(fraction)
    return torch.cat(groups), torch.cat(fractions)
