"""Where the code of an operator changes: where two numbers are equal, or where the order of several entries changes.

An operator says it here, once. Lines, planes and regions are found from this alone, and so they work for a rule of a
user's own. There are two families. A unit that compares numbers changes its piece where both sides of a comparison are
equal: an entry and a knot, or the entries of two tensors. A unit that selects one of several entries changes its piece
where another entry takes its place.

All of it is affine in the operator's inputs, so that between two points where they are known, zeros are found exactly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Any

import torch
from torch import Tensor


class Boundaries(ABC):
    """Where an operator's code changes."""

    @abstractmethod
    def codes(self, inputs: Sequence[Any], limit: float = 0.0) -> Tensor | None:
        """The operator's codes, shaped as its first output; None where they do not follow from the boundaries."""
        # What ties identically, as the entries of a flat patch of an image do, differs by rounding when it is computed
        # apart, in whichever way the processor's kernels have it: differences up to the limit are none.


@dataclass(frozen=True, eq=False)
class Pair:
    """The two sides of a comparison: tensors that broadcast to the operator's units, or one number for all of them.

    Attributes:
        first: The side that is larger above the boundary.
        second: The other side.
        reached: Whether units at which both are equal are above already.
    """

    first: Any
    second: Any
    reached: bool = False

    def difference(self) -> Tensor:
        """First less second, in float64: zero on the boundary."""
        first, second = (torch.as_tensor(side, dtype=torch.float64) for side in (self.first, self.second))
        return first if isinstance(self.second, float) and not self.second else first - second


class Comparisons(Boundaries):
    """Each unit compares numbers, and its code says how many of the comparisons find the first side larger."""

    counted = True

    @abstractmethod
    def pairs(self, inputs: Sequence[Any]) -> Sequence[Pair]:
        """The comparisons that every unit makes."""

    def codes(self, inputs: Sequence[Any], limit: float = 0.0) -> Tensor | None:
        if not self.counted:
            return None
        # What is within the limit counts as equal; a tie is above where its comparison says so.
        differences = ((pair.difference(), pair.reached) for pair in self.pairs(inputs))
        above = [(item >= -limit if reached else item > limit).view(torch.uint8) for item, reached in differences]
        return reduce(torch.add, above) if above else None


@dataclass(frozen=True)
class Knots(Comparisons):
    """Each unit compares its entry of the first input with the same numbers.

    Attributes:
        knots: The numbers, increasing.
        reached: Per knot, whether an entry equal to it is above already. By default it is not: the lowest piece wins.
    """

    knots: tuple[float, ...]
    reached: tuple[bool, ...] = ()

    def pairs(self, inputs: Sequence[Any]) -> Sequence[Pair]:
        reached = self.reached or (False,) * len(self.knots)
        return [Pair(inputs[0], knot, at) for knot, at in zip(self.knots, reached, strict=True)]


@dataclass(frozen=True)
class Duels(Comparisons):
    """Each unit compares entries of tensors.

    Attributes:
        sides: From the operator's inputs to the comparisons.
        counted: Whether the code is the number of them that find the first side larger; else it only changes where
            that number does.
    """

    sides: Callable[[Sequence[Any]], Sequence[Pair]]
    counted: bool = True

    def pairs(self, inputs: Sequence[Any]) -> Sequence[Pair]:
        return self.sides(inputs)


class Order(Enum):
    """What of the order of a group of entries decides the codes.

    Attributes:
        LARGEST: Each unit has a group of its own, and its code is the place of the largest entry; the lowest at a tie.
        SORTED: The units along an axis share a group: the largest entry, the next, and so on.
        RANK: A unit is an entry of some rank; what lies below it and what above may vary within a piece.
    """

    LARGEST = 1
    SORTED = 2
    RANK = 3


@dataclass(frozen=True)
class Contest(Boundaries):
    """Each unit selects one of several entries of the first input.

    Attributes:
        entries: From the first input to the entries of every group, (*units, m), units as in the first output. Where
            units share groups, theirs have size one along ``axis``. What is missing in a window is ``-factor`` times
            infinity.
        factor: -1 where the smallest entry wins.
        order: What of their order decides.
        axis: The axis of the first output along which units share a group.
        some: The same as ``entries``, (k, m), of the k units at given places alone: of many windows few change.
        picks: Whether a unit's value is the entry that wins, and nothing else.
    """

    entries: Callable[[Tensor], Tensor]
    factor: int = 1
    order: Order = Order.LARGEST
    axis: int | None = None
    some: Callable[[Tensor, tuple[Tensor, ...]], Tensor] | None = None
    picks: bool = False

    def scores(self, x: Tensor) -> Tensor:
        """The entries of every group, of which the largest wins."""
        return self.factor * self.entries(x)

    def scores_at(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        """The same for the units at some places, (k, m)."""
        return self.factor * (self.entries(x)[places] if self.some is None else self.some(x, places))

    def codes(self, inputs: Sequence[Any], limit: float = 0.0) -> Tensor | None:
        if self.order is not Order.LARGEST:
            return None
        return self.winners(self.scores(inputs[0]), limit)

    def winners(self, scores: Tensor, limit: float) -> Tensor:
        """The place of the largest of scores (..., m)."""
        # Of all that come within the limit of the largest the first is found, so the lowest wins a tie.
        return (scores >= scores.amax(-1, keepdim=True) - limit).byte().argmax(-1)
