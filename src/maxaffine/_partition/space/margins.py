"""The margins of an operator: affine functions whose signs say which piece every unit is on.

A unit that compares has one margin per comparison; one that selects has one for each entry that it did not select,
which its winner must stay ahead of. A unit that sorts needs few: each entry ahead of the next, and the last ahead of
the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import BatchAxis, Comparisons, Order, Step
from maxaffine._partition.inputs import known_boundaries, refusal


@dataclass(frozen=True)
class Margins:
    """Affine functions of the network's input, one per column, evaluated at several points."""

    values: Tensor  # (points, margins); the first point is the one whose pieces are described
    sign: Tensor  # (margins,) 1 where the piece needs the value >= 0, -1 where it needs <= 0
    unit: Tensor  # (margins,) flat number of the unit among the operator's


def margins(step: Step, inputs: Sequence[Any], units: Tensor, axis: BatchAxis) -> Iterator[Margins]:
    """The margins of the operator of a step with pieces, one set after another."""
    # The inputs are given at several points, all on the affine map of the first, in their own layout; ``units`` are the
    # numbers of the entries of its first output, (points, *units), which keeps the points in ``axis``.
    boundaries = known_boundaries(step)
    if isinstance(boundaries, Comparisons):
        yield from _pair_margins(boundaries, inputs, units, axis)
        return
    if axis != BatchAxis():
        reason = "it keeps its samples in another axis than the first"
        raise refusal(step, reason, "capture with the batch first")
    scores = boundaries.scores(inputs[0].double())
    lines = scores.reshape(len(scores), -1, scores.shape[-1])
    if boundaries.order is Order.LARGEST:
        yield _winner_margins(lines, units[0].reshape(-1, 1))
    elif boundaries.order is Order.SORTED and boundaries.axis is not None:
        numbers = units[0].movedim(boundaries.axis - 1, -1)
        yield _order_margins(lines, numbers.reshape(-1, numbers.shape[-1]))
    else:
        reason = "the inputs that share a code are not a convex set: which entries lie below the chosen one may vary"
        cure = "use partition.line, or sort the entries and pick one by its place"
        raise refusal(step, reason, cure)


def _pair_margins(boundaries: Comparisons, inputs: Sequence[Any], units: Tensor, axis: BatchAxis) -> Iterator[Margins]:
    """A margin per unit and comparison; of several that are counted, only the two around each unit's place."""
    # A unit that is above one of those is above all before it, so the others follow from these two.
    pairs = boundaries.pairs(inputs)
    values = [axis.to_front(pair.difference()).expand(units.shape).reshape(len(units), -1) for pair in pairs]
    above = [value[0] >= 0 if pair.reached else value[0] > 0 for pair, value in zip(pairs, values, strict=True)]
    count = sum(item.long() for item in above)
    for place, (value, upper) in enumerate(zip(values, above, strict=True)):
        near = (count == place) | (count == place + 1) if boundaries.counted else torch.ones_like(upper)
        sign = upper.to(value.dtype) * 2 - 1
        yield Margins(value[:, near], sign[near], units[0].reshape(-1)[near])


def _winner_margins(lines: Tensor, numbers: Tensor) -> Margins:
    """The winner of every group minus each of the others, except what is missing from a window."""
    winner = lines[0].argmax(-1, keepdim=True)
    ahead = lines.gather(-1, winner.expand(len(lines), *winner.shape)) - lines
    others = lines[0].isfinite().scatter(-1, winner, False)
    unit = numbers.expand(others.shape)[others]
    return Margins(ahead[:, others], torch.ones_like(ahead[0, others]), unit)


def _order_margins(lines: Tensor, numbers: Tensor) -> Margins:
    """Each selected entry against the next, and the last selected against all that were left out."""
    size, kept = lines.shape[-1], numbers.shape[-1]
    order = lines[0].sort(stable=True, dim=-1, descending=True).indices
    ranked = lines.gather(-1, order.expand(lines.shape))
    chain = ranked[..., : kept - 1] - ranked[..., 1:kept]
    rest = ranked[..., kept - 1 : kept] - ranked[..., kept:]
    values = torch.cat([chain, rest], -1).flatten(1)
    unit = torch.cat([numbers[:, : kept - 1], numbers[:, kept - 1 :].expand(-1, size - kept)], -1).flatten()
    return Margins(values, torch.ones_like(values[0]), unit)
