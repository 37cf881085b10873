"""Piecewise-affine operators that select entries: max-pooling, and max, min, sort, top-k, median over an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine.graph.contract import LocalMap, Sign, Tensors, Traits
from maxaffine.graph.frozen import FrozenFunction, Signature, Traced
from maxaffine.graph.piecewise import laid_out_as


@dataclass(frozen=True, eq=False)
class AxisSelection(Traced):
    """Each unit is one entry of its input along some axes: the code is the place of that entry among them.

    Attributes:
        winners: Maps (input with the axes flattened at its end, value) to the places (..., m) along that end.
        axes: The axes selected from.
        kept: The axes that the value keeps with size one; None when m entries stay along the single axis.
        pieces: Number of entries along the axes.
        convex: True for the maximum.
    """

    winners: Callable[[Tensor, Any], Tensor]
    axes: tuple[int, ...]
    kept: tuple[int, ...] | None
    pieces: int
    convex: bool

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, pieces=self.pieces, convex=self.convex)

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

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        return self._placed(self.winners(self._flat(inputs[0]), value))

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        places = self.winners(self._flat(inputs[0]), value)
        others = value[1:] if isinstance(value, tuple | list) else ()

        def function(x: Tensor):
            return (self._placed(self._flat(x).gather(-1, places)), *others)

        return FrozenFunction(function, [Signature.of(inputs[0])], homogeneous=True)

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)


@dataclass(frozen=True, eq=False)
class MaxPool(Traced):
    """Max-pooling over windows, in one to three dimensions; the code is the winner's place in its window.

    Attributes:
        starts: Per spatial axis, the coordinate of the first place of each window (negative inside padding).
        window: Per spatial axis, the size of the largest window.
        dilation: Per spatial axis, the distance between the places of a window.
        tiled: Whether the windows tile the plane from its corner on, side by side.
    """

    starts: tuple[Tensor, ...]
    window: tuple[int, ...]
    dilation: tuple[int, ...]
    tiled: bool

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, pieces=prod(self.window))

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        index = value[1]
        places = torch.zeros_like(index)
        factor = 1
        for axis in range(-1, -len(self.window) - 1, -1):
            size = inputs[0].shape[axis]
            starts = self.starts[axis].view(-1, *([1] * (-1 - axis)))
            places += (index % size - starts) // self.dilation[axis] * factor
            index = index // size
            factor *= self.window[axis]
        return places.to(torch.uint8 if prod(self.window) <= 256 else torch.int32)

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        if self.tiled:
            return TileSelection(self.codes(inputs, value), self.window, value[1], inputs[0].shape)
        return PlaneSelection(value[1], inputs[0].shape, len(self.window))

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)


class PlaneSelection(LocalMap):
    """y = x[index] with flat indices into each plane of x (its last ``axes`` axes)."""

    def __init__(self, index: Tensor, shape: torch.Size, axes: int) -> None:
        self.index = index
        self.shape = shape
        self.axes = axes

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        flat = tangents[0].flatten(-self.axes)
        return flat.gather(-1, self.index.flatten(-self.axes)).view_as(self.index), None

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        planes = cotangents[0].flatten(-self.axes)
        index = self.index.flatten(-self.axes).expand(planes.shape)
        gradient = planes.new_zeros((*planes.shape[:-1], self.shape[-self.axes :].numel()))
        gradient.scatter_add_(-1, index, planes)
        return (gradient.unflatten(-1, self.shape[-self.axes :]),)


class TileSelection(PlaneSelection):
    """The same for windows that tile the plane: each place of the window is one strided write, no scatter.

    Args:
        codes: The winner's place in its window.
        window: The window's size per axis.
        index: Flat indices into each plane.
        shape: Shape of the input.
    """

    def __init__(self, codes: Tensor, window: tuple[int, ...], index: Tensor, shape: torch.Size) -> None:
        super().__init__(index, shape, len(window))
        self.codes = codes
        self.window = window

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        rows = cotangents[0]
        last = rows.dim() == 5 and rows.stride(2) == 1
        layout = torch.channels_last if last else torch.contiguous_format
        folded = (rows.shape[0] * rows.shape[1], *self.shape[1:])
        gradient = torch.empty(folded, dtype=rows.dtype, device=rows.device, memory_format=layout)
        gradient = gradient.unflatten(0, rows.shape[:2])
        covered = [size * step for size, step in zip(rows.shape[-self.axes :], self.window, strict=True)]
        if tuple(covered) != tuple(self.shape[-self.axes :]):
            gradient.zero_()
        for code, place in enumerate(product(*(range(size) for size in self.window))):
            spots = tuple(slice(p, end, step) for p, end, step in zip(place, covered, self.window, strict=True))
            torch.mul(rows, laid_out_as(self.codes == code, rows, rows.dtype), out=gradient[(..., *spots)])
        return (gradient,)
