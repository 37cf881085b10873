"""The segment between two inputs of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._partition.inputs import one_input
from maxaffine.errors import BadInput


@dataclass(frozen=True)
class Segment:
    """x(t) = (1 - t) x0 + t x1 for t from 0 to 1, in float64.

    Attributes:
        net: The network, in float64.
        start: x0, one tensor per input of the network, a batch of one each.
        end: x1, likewise.
    """

    net: SplineNetwork
    start: tuple[Tensor, ...]
    end: tuple[Tensor, ...]

    def points(self, t: Tensor) -> tuple[Tensor, ...]:
        """The inputs x(t): a batch of len(t) for each input of the network."""
        found = []
        for a, b, dim in zip(self.start, self.end, self.net.inputs.batch_dims, strict=True):
            shape = [len(t) if axis == dim else size for axis, size in enumerate(a.shape)]
            weight = t.view([len(t) if axis == dim else 1 for axis in range(a.dim())])
            rows = torch.lerp(a, b, weight) if a.is_floating_point() else a
            found.append(rows.expand(shape).contiguous())
        return tuple(found)

    def direction(self, count: int) -> tuple[Tensor, ...]:
        """x1 - x0, ``count`` equal rows for each input; zeros for one that is not floating point."""
        triples = zip(self.start, self.end, self.net.inputs.batch_dims, strict=True)
        return tuple((b - a).repeat_interleave(count, dim) for a, b, dim in triples)

    def packed(self, tensors: Sequence[Tensor]) -> Any:
        """The tensors as the network takes them."""
        if self.net.inputs.keyword:
            return dict(zip(self.net.inputs.names, tensors, strict=True))
        return tensors[0] if len(tensors) == 1 else tuple(tensors)


def segment(net: SplineNetwork, x0: Any, x1: Any) -> Segment:
    """The checked segment from x0 to x1.

    Args:
        net: The network, in any floating-point type.
        x0: One input as at capture (a batch of one), in the network's own type or in float64.
        x1: Another.

    Returns:
        The segment.

    Raises:
        BadInput: When net is not a network, x0 or x1 is not one input, or an integer input differs between them.
    """
    start, end = one_input(net, x0, "x0"), one_input(net, x1, "x1")
    for a, b, name in zip(start, end, net.inputs.names, strict=True):
        if not a.is_floating_point() and not torch.equal(a, b):
            raise BadInput(f"x1: {name} is not floating point, so it cannot move; give it the same value as in x0")
    return Segment(net.double(), start, end)
