"""A piecewise-affine operator as a difference of max-affine splines: what there is to soften in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Why an operator has codes that cannot be soft; of one whose code never changes, that there is nothing to soften.
NEVER_SWITCHES = "its code never changes"
JUMPS = "it jumps where its code changes, and differences of max-affine splines are continuous"


@dataclass(frozen=True)
class Maximum:
    """The largest of some pieces, counted with a sign.

    Attributes:
        pieces: (*units, R), minus infinity where a unit has fewer; of two pieces, 0 and u, (*units) u alone.
        sign: 1 in the convex part, -1 in the concave one; a tensor where that differs from unit to unit.
        pair: Whether the pieces are 0 and u.
    """

    pieces: Tensor
    sign: float | Tensor = 1.0
    pair: bool = True


@dataclass(frozen=True)
class Splines:
    """An operator at given inputs: its value is an affine base and the sum of signed maxima.

    Attributes:
        base: What is affine in it.
        maxima: Of the convex part, then of the concave one.
    """

    base: Tensor | float
    maxima: tuple[Maximum, ...]


def of_kinks(x: Tensor, kinks: Sequence[tuple[float | Tensor, float]]) -> tuple[Maximum, ...]:
    """The sum of max(0, d (x - k)) over kinks (d, k): positive d one maximum, negative d another, subtracted."""
    # The only decomposition whose parts have no kink in common; what is affine may lie in either, for soft codes do not
    # see what is added to all pieces alike.
    if len(kinks) == 1:
        (change, knot), *_ = kinks
        sign = torch.where(change < 0, -1.0, 1.0).to(x) if isinstance(change, Tensor) else -1.0 if change < 0 else 1.0
        return (Maximum(_scaled(x, sign * change, knot), sign),)
    found = []
    for sign in (1.0, -1.0):
        steps = [_scaled(x, sign * change, knot) for change, knot in kinks if sign * change > 0]
        if len(steps) == 1:
            found.append(Maximum(steps[0], sign))
        elif steps:
            # Piece r has the changes of all kinks up to its own.
            pieces = torch.stack([torch.zeros_like(x), *steps], -1).cumsum(-1)
            found.append(Maximum(pieces, sign, pair=False))
    return tuple(found)


def _scaled(x: Tensor, change: float | Tensor, knot: float) -> Tensor:
    moved = x - knot if knot else x
    return moved if isinstance(change, float) and change == 1.0 else change * moved
