"""Where each operator changes its piece between the two ends of a stretch on which its inputs are affine.

On a stretch everything that an operator compares is a line, known by its values at both ends. So each of the three
families of boundaries becomes a question about lines: where one crosses zero, where the largest of several is
overtaken, where two of several change places. Too many answers do no harm: a cut at which no code changes is dropped in
the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import Comparisons, Contest, Order, Step
from maxaffine._partition.lines.envelopes import crossings, reorderings, takeovers
from maxaffine._partition.refusal import known_boundaries

Cuts = tuple[Tensor, Tensor]  # piece, and the fraction of it


@dataclass(frozen=True)
class Stretches:
    """Inputs of one operator on consecutive stretches of the line."""

    left: list[Any]  # its inputs at the left ends, in its own layout
    right: list[Any]  # its inputs at the right ends
    owner: Tensor  # number of the stretch of every entry of its first output, in that layout (a broadcast view)
    tolerance: float  # differences up to this large count as zero


def cuts(step: Step, ends: Stretches) -> list[Cuts]:
    """The places inside stretches where a unit of a step changes its piece (possibly more, never fewer), in parts."""
    boundaries = known_boundaries(step)
    if isinstance(boundaries, Comparisons):
        pairs = zip(boundaries.pairs(ends.left), boundaries.pairs(ends.right), strict=True)
        return [_zeros(left.difference(), right.difference(), ends) for left, right in pairs]
    if boundaries.order is Order.LARGEST:
        return [_winner_changes(step, boundaries, ends)]
    return [_order_changes(boundaries, ends)]


def _zeros(left: Tensor, right: Tensor, ends: Stretches) -> Cuts:
    """Wherever a difference changes its sign."""
    _, fraction, where = crossings(left, right, ends.tolerance)
    return ends.owner[where], fraction


def _winner_changes(step: Step, contest: Contest, ends: Stretches) -> Cuts:
    """Only units whose winners differ between the ends: a convex function equal to one line at both ends is it."""
    operator = step.operator
    before, after = (operator.codes(inputs, operator(*inputs)) for inputs in (ends.left, ends.right))
    places = torch.nonzero(before != after, as_tuple=True)
    left, right = (contest.scores_at(inputs[0], places) for inputs in (ends.left, ends.right))
    unit, fraction = takeovers(left, right, ends.tolerance)
    return ends.owner[places][unit], fraction


def _order_changes(contest: Contest, ends: Stretches) -> Cuts:
    """Wherever two entries of a group change places."""
    left, right = (contest.scores(inputs[0]) for inputs in (ends.left, ends.right))
    owner = ends.owner if contest.axis is None else ends.owner.movedim(contest.axis, -1)[..., 0]
    group, fraction = reorderings(left.flatten(0, -2), right.flatten(0, -2), ends.tolerance)
    return owner.reshape(-1)[group], fraction
