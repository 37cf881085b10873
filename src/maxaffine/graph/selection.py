"""Piecewise-affine operators that select entries: max-pooling, and max, min, sort, top-k, median over an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from maxaffine.graph.contract import LocalMap, Operator, Sign, Tensors
from maxaffine.graph.frozen import Affine, FrozenFunction, Signature


@dataclass(frozen=True, eq=False)
class AxisSelection(Operator):
    """Each unit is one entry of its input along some axes: the code is the place of that entry among them.

    Attributes:
        traced: The traced operator.
        winners: Maps (input with the axes flattened at its end, value) to the places (..., m) along that end.
        axes: The axes selected from.
        kept: The axes that the value keeps with size one; None when m entries stay along the single axis.
        pieces: Number of entries along the axes.
        convex: True for the maximum.
    """

    traced: Affine
    winners: Callable[[Tensor, object], Tensor]
    axes: tuple[int, ...]
    kept: tuple[int, ...] | None
    pieces: int
    convex: bool

    @property
    def kind(self) -> str:
        return self.traced.kind

    def __call__(self, x: Tensor):
        return self.traced(x)

    def _flat(self, x: Tensor) -> Tensor:
        count = len(self.axes)
        return x.movedim(self.axes, tuple(range(-count, 0))).flatten(-count)

    def _placed(self, picked: Tensor) -> Tensor:
        if self.kept is None:
            return picked.movedim(-1, self.axes[0])
        picked = picked.squeeze(-1)
        for axis in self.kept:
            picked = picked.unsqueeze(axis)
        return picked

    def codes(self, inputs: Sequence[Tensor], value) -> Tensor:
        return self._placed(self.winners(self._flat(inputs[0]), value))

    def local(self, inputs: Sequence[Tensor], value) -> LocalMap:
        places = self.winners(self._flat(inputs[0]), value)
        others = value[1:] if isinstance(value, tuple | list) else ()

        def function(x: Tensor):
            return (self._placed(self._flat(x).gather(-1, places)), *others)

        return FrozenFunction(function, [Signature.of(inputs[0])], homogeneous=True)

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)


@dataclass(frozen=True, eq=False)
class MaxPool(Operator):
    """Max-pooling over windows, in one to three dimensions; the code is the winner's place in its window.

    Attributes:
        traced: The traced operator, returning values and flat indices into each input plane.
        starts: Per spatial axis, the coordinate of the first place of each window (negative inside padding).
        window: Per spatial axis, the size of the largest window.
        dilation: Per spatial axis, the distance between the places of a window.
        disjoint: Whether no two windows share an entry.
    """

    traced: Affine
    starts: tuple[Tensor, ...]
    window: tuple[int, ...]
    dilation: tuple[int, ...]
    disjoint: bool

    @property
    def kind(self) -> str:
        return self.traced.kind

    @property
    def pieces(self) -> int:
        return prod(self.window)

    def __call__(self, x: Tensor):
        return self.traced(x)

    def codes(self, inputs: Sequence[Tensor], value) -> Tensor:
        index = value[1]
        places = torch.zeros_like(index)
        factor = 1
        for axis in range(-1, -len(self.window) - 1, -1):
            size = inputs[0].shape[axis]
            starts = self.starts[axis].view(-1, *([1] * (-1 - axis)))
            places += (index % size - starts) // self.dilation[axis] * factor
            index = index // size
            factor *= self.window[axis]
        return places.to(torch.uint8 if self.pieces <= 256 else torch.int32)

    def local(self, inputs: Sequence[Tensor], value) -> LocalMap:
        return PlaneSelection(value[1], inputs[0].shape, len(self.window), self.disjoint)

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)


class PlaneSelection(LocalMap):
    """y = x[index] with flat indices into each plane of x (its last ``axes`` axes)."""

    def __init__(self, index: Tensor, shape: torch.Size, axes: int, disjoint: bool) -> None:
        self.index = index
        self.shape = shape
        self.axes = axes
        self.disjoint = disjoint

    def mv(self, tangents: Sequence[Tensor | None]) -> Tensors:
        flat = tangents[0].flatten(-self.axes)
        return flat.gather(-1, self.index.flatten(-self.axes)).view_as(self.index), None

    def rmv(self, cotangents: Sequence[Tensor | None]) -> Tensors:
        rows = cotangents[0]
        planes = rows.flatten(-self.axes)
        index = self.index.flatten(-self.axes).expand(planes.shape)
        gradient = planes.new_zeros((*planes.shape[:-1], self.shape[-self.axes :].numel()))
        if self.disjoint:
            gradient.scatter_(-1, index, planes)
        else:
            gradient.scatter_add_(-1, index, planes)
        return (gradient.unflatten(-1, self.shape[-self.axes :]),)

