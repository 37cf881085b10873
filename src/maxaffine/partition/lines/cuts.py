"""Where each operator changes its piece between the two ends of a stretch on which its inputs are affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine.errors import NotPiecewiseAffine
from maxaffine.graph import AxisSelection, Choice, Comparison, Elementwise, MaxPool, Step, as_tuple, fill
from maxaffine.partition.lines.envelopes import crossings, reorderings, takeovers
from maxaffine.partition.windows import windows

Cuts = tuple[Tensor, Tensor]  # piece, and the fraction of it

COMPARED = frozenset({"gt", "ge", "lt", "le", "eq", "ne"})
LARGEST = {"amax": 1, "max": 1, "argmax": 1, "amin": -1, "min": -1, "argmin": -1}
RUNNING = {"cummax": 1, "cummin": -1}
ORDERED = frozenset({"sort", "topk", "median", "nanmedian", "kthvalue"})


@dataclass(frozen=True)
class Stretches:
    """Inputs of one operator on consecutive stretches of the line.

    Attributes:
        left: Its inputs at the left ends, in its own layout.
        right: Its inputs at the right ends.
        owner: Number of the stretch of every entry of its first output, in that layout (a broadcast view).
        tolerance: Differences up to this large count as zero.
    """

    left: list[Any]
    right: list[Any]
    owner: Tensor
    tolerance: float


def cuts(step: Step, ends: Stretches) -> list[Cuts]:
    """The places inside stretches where a unit of the operator changes its piece (possibly more, never fewer).

    Args:
        step: A step whose first record has several pieces.
        ends: Its inputs.

    Returns:
        Stretches and fractions, one pair per kind of change.

    Raises:
        NotPiecewiseAffine: For an operator whose boundaries are not known here.
    """
    operator = step.operator
    if isinstance(operator, Elementwise):
        return [_zeros(ends.left[0] - knot, ends.right[0] - knot, ends) for knot in operator.spline.knots]
    if isinstance(operator, Choice):
        return [_zeros(_difference(operator, ends.left), _difference(operator, ends.right), ends)]
    if isinstance(operator, MaxPool):
        return [_pooled(operator, ends)]
    if isinstance(operator, AxisSelection):
        return [_selected(operator, ends)]
    if isinstance(operator, Comparison):
        return _compared(operator, ends)
    raise NotPiecewiseAffine(*refusal(step))


def refusal(step: Step, reason: str = "", cure: str = "") -> tuple[str, str, str, str, str]:
    """What NotPiecewiseAffine says of a step; by default that it is an operator of a user's own."""
    record = step.records[0]
    return (
        record.name,
        reason or f"where {type(step.operator).__name__} changes its piece is not known to the partition",
        cure or "build its rule from Elementwise, Choice, MaxPool, AxisSelection or Comparison",
        record.module_path,
        record.source,
    )


def _difference(operator: Choice | Comparison, inputs: Sequence[Any]) -> Tensor:
    first, second = fill(operator.traced.args, inputs)[:2]
    return torch.as_tensor(first, dtype=torch.float64) - torch.as_tensor(second, dtype=torch.float64)


def _zeros(left: Tensor, right: Tensor, ends: Stretches) -> Cuts:
    _, fraction, where = crossings(left, right, ends.tolerance)
    return ends.owner[where], fraction


def _compared(operator: Comparison, ends: Stretches) -> list[Cuts]:
    kind = operator.traced.kind
    left, right = ends.left[0], ends.right[0]
    if kind in COMPARED:
        return [_zeros(_difference(operator, ends.left), _difference(operator, ends.right), ends)]
    if kind in LARGEST:
        dim = operator.traced.args[1] if len(operator.traced.args) > 1 else None
        axis = left.dim() - 1 if dim is None else int(dim)
        low, high = (side.double().movedim(axis, -1) for side in (left, right))
        return [_lines(low, high, kind, _squeezed(ends, left, axis), ends)]
    if kind in ("isnan", "isinf"):
        return []
    if kind == "bucketize":
        knots = fill(operator.traced.args, ends.left)[1].double().tolist()
        return [_zeros(left.double() - knot, right.double() - knot, ends) for knot in knots]
    return [_zeros(left.double(), right.double(), ends)]  # sign, and conversion to bool


def _squeezed(ends: Stretches, left: Tensor, axis: int) -> Tensor:
    return ends.owner if ends.owner.dim() < left.dim() else ends.owner.movedim(axis, -1)[..., 0]


def _selected(operator: AxisSelection, ends: Stretches) -> Cuts:
    left, right = operator.flat(ends.left[0]), operator.flat(ends.right[0])
    owner = ends.owner
    if operator.kept is None:
        owner = owner.movedim(operator.axes[0], -1)[..., 0]
    else:
        for axis in reversed(operator.kept):
            owner = owner.squeeze(axis)
    return _lines(left, right, operator.traced.kind, owner, ends)


def _lines(left: Tensor, right: Tensor, kind: str, owner: Tensor, ends: Stretches) -> Cuts:
    """Groups of lines along the last axis."""
    left, right = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
    owner = owner.reshape(-1)
    if kind in ORDERED:
        group, fraction = reorderings(left, right, ends.tolerance)
        return owner[group], fraction
    if kind in RUNNING:
        size = left.shape[-1]
        later = torch.ones(size, size, dtype=torch.bool, device=left.device).triu(1)
        factor = RUNNING[kind]
        left = (factor * left)[:, None].masked_fill(later, -torch.inf).reshape(-1, size)
        right = (factor * right)[:, None].masked_fill(later, -torch.inf).reshape(-1, size)
        group, fraction = takeovers(left, right, ends.tolerance)
        return owner[group // size], fraction
    factor = LARGEST[kind]
    changed = torch.nonzero((factor * left).argmax(-1) != (factor * right).argmax(-1))[:, 0]
    group, fraction = takeovers(factor * left[changed], factor * right[changed], ends.tolerance)
    return owner[changed[group]], fraction


def _pooled(operator: MaxPool, ends: Stretches) -> Cuts:
    """Only windows whose winners differ between the ends: a convex function equal to one line at both ends is it."""
    axes = len(operator.window)
    winners = [as_tuple(operator(*inputs))[1] for inputs in (ends.left, ends.right)]
    places = torch.nonzero(winners[0] != winners[1], as_tuple=True)
    lead = winners[0].dim() - axes
    planes = [inputs[0].flatten(-axes)[places[:lead]] for inputs in (ends.left, ends.right)]
    index, inside = windows(operator, ends.left[0].shape[-axes:])
    unit = torch.zeros_like(places[0])
    for place, size in zip(places[lead:], winners[0].shape[lead:], strict=True):
        unit = unit * size + place
    left, right = (plane.gather(-1, index[unit]).masked_fill(~inside[unit], -torch.inf) for plane in planes)
    group, fraction = takeovers(left, right, ends.tolerance)
    return ends.owner[places][group], fraction
