"""Piecewise-affine operators that select entries: max-pooling, and max, min, sort, top-k, median over an axis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph.boundaries import Boundaries, Contest, Order
from maxaffine._graph.contract import LocalMap, Sign, Tensors, Traits
from maxaffine._graph.frozen import FrozenFunction, Signature, Traced
from maxaffine._graph.linear import fastest_layout, laid_out_as
from maxaffine._graph.piecewise import scale_by
from maxaffine._graph.splines import Maximum, Splines


@dataclass(frozen=True, eq=False)
class AxisSelection(Traced):
    """Each unit is one entry of its input along some axes: the code is the place of that entry among them."""

    # Maps (input with the axes flattened at its end, value) to the places (..., m) along that end.
    winners: Callable[[Tensor, Any], Tensor]
    axes: tuple[int, ...]  # selected from
    kept: tuple[int, ...] | None  # those that the value keeps with size one; None: m entries stay along the single axis
    pieces: int  # number of entries along the axes
    order: Order  # what of the entries' order decides the winners; with the largest, kept=None is a running one
    factor: int = 1  # -1 where the smallest entry comes first
    continuous: bool = True  # not where the entries come in no particular order

    @property
    def traits(self) -> Traits:
        convex = self.order is Order.LARGEST and self.factor > 0
        return Traits(self.traced.kind, (0,), self.pieces, convex, self.continuous, homogeneous=True)

    def flat(self, x: Tensor) -> Tensor:
        """The input with the axes selected from flattened at its end."""
        count = len(self.axes)
        return x.movedim(self.axes, tuple(range(-count, 0))).flatten(-count)

    def _place(self, picked: Tensor) -> Tensor:
        if self.kept is None:
            return picked.movedim(-1, self.axes[0])
        picked = picked.squeeze(-1)
        for axis in self.kept:
            picked = picked.unsqueeze(axis)
        return picked

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        return self._place(self.winners(self.flat(inputs[0]), value))

    def boundaries(self) -> Boundaries:
        shared = self.axes[0] if self.order is Order.SORTED else None
        return Contest(self._entries, self.factor, self.order, shared, picks=self.order is Order.LARGEST)

    def hard(self) -> str:
        if self.order is Order.LARGEST or self.traced.kind == "topk" and self.traced.args[1] == 1:
            return ""
        return "an entry of another rank than the first is a difference of maxima over all subsets of the entries"

    def splines(self, inputs: Sequence[Any]) -> Splines:
        return Splines(0.0, (Maximum(self.factor * self._entries(inputs[0]), float(self.factor), pair=False),))

    def _entries(self, x: Tensor) -> Tensor:
        """The entries of every unit's group, as the boundaries want them."""
        flat = self.flat(x)
        if self.order is Order.LARGEST and self.kept is None:
            # Every place along the axis is a unit, which the entries after it have no part in.
            later = torch.ones(self.pieces, self.pieces, dtype=torch.bool, device=x.device).triu(1)
            return flat.unsqueeze(-2).masked_fill(later, -self.factor * torch.inf).movedim(-2, self.axes[0])
        for axis in self.axes if self.kept is None else self.kept:
            flat = flat.unsqueeze(axis)
        return flat

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        places = self.winners(self.flat(inputs[0]), value)
        others = value[1:] if isinstance(value, tuple | list) else ()

        # With the winners held, which entry a unit takes is fixed, and to take it is linear.
        def function(x: Tensor):
            return (self._place(self.flat(x).gather(-1, places)), *others)

        return FrozenFunction(function, [Signature.of(inputs[0])], homogeneous=True)

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)


@dataclass(frozen=True, eq=False)
class MaxPool(Traced):
    """Max-pooling over windows, in one to three dimensions; the code is the winner's place in its window."""

    # Per spatial axis:
    starts: tuple[Tensor, ...]  # the coordinate of the first place of each window (negative inside padding)
    window: tuple[int, ...]  # the size of the largest window
    dilation: tuple[int, ...]  # the distance between the places of a window
    tiled: bool  # whether the windows tile the plane from its corner on, side by side

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, pieces=prod(self.window), homogeneous=True)

    def __call__(self, *inputs: Any) -> Any:
        x, *rest = inputs
        if not _pools_faster_channels_last(x):
            return self.traced(*inputs)
        value, index = self.traced(x.contiguous(memory_format=torch.channels_last), *rest)
        return value.contiguous(), index.contiguous()

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        # A place and its window's first leave the same remainder, so their difference may be divided term by term: the
        # code is a number looked up for the place less one of the window, and no division runs over all units. Bytes
        # wrap around in both and in their difference alike.
        index, size = value[1], inputs[0].shape
        dtype = torch.uint8 if prod(self.window) <= 256 else torch.int32
        place, first, factor = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64), 1
        for axis in range(-1, -len(self.window) - 1, -1):
            axes_after = [1] * (-1 - axis)
            steps = torch.arange(size[axis], device=index.device) // self.dilation[axis]
            place = place + factor * steps.view(-1, *axes_after)
            first = first + factor * (self.starts[axis] // self.dilation[axis]).view(-1, *axes_after)
            factor *= self.window[axis]
        found = place.to(dtype).reshape(-1).index_select(0, index.reshape(-1)).view(index.shape)
        return found.sub_(first.to(dtype))

    def boundaries(self) -> Boundaries:
        return Contest(self._entries, some=self._entries_at, picks=True)

    def hard(self) -> str:
        return ""

    def splines(self, inputs: Sequence[Any]) -> Splines:
        return Splines(0.0, (Maximum(self._entries(inputs[0]), pair=False),))

    def _entries(self, x: Tensor) -> Tensor:
        index, inside = self._windows(x.shape[-len(self.window) :])
        entries = x.flatten(-len(self.window))[..., index].masked_fill(~inside, -torch.inf)
        return entries.unflatten(-2, [len(starts) for starts in self.starts])

    def _entries_at(self, x: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        axes = len(self.window)
        index, inside = self._windows(x.shape[-axes:])
        # The number of a unit's window, row by row.
        window = torch.zeros_like(places[0])
        for place, starts in zip(places[-axes:], self.starts, strict=True):
            window = window * len(starts) + place
        planes = x.flatten(-axes)[places[:-axes]]
        return planes.gather(-1, index[window]).masked_fill(~inside[window], -torch.inf)

    def _windows(self, plane: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The flat indices into a plane of every window's places, (windows, places), and which of them it has."""
        axes, device = len(plane), self.starts[0].device
        # Axis by axis, (windows along each axis, places along each axis): an index of rows is a number of entries.
        index = torch.zeros([1] * (2 * axes), dtype=torch.long, device=device)
        inside = torch.ones_like(index, dtype=torch.bool)
        for axis, (starts, size, dilation) in enumerate(zip(self.starts, plane, self.dilation, strict=True)):
            places = starts[:, None] + dilation * torch.arange(self.window[axis], device=device)
            good = (places >= 0) & (places < self._ends(starts, size)[:, None])
            shape = [1] * (2 * axes)
            shape[axis], shape[axes + axis] = places.shape
            index = index * size + places.clamp(0, size - 1).view(shape)
            inside = inside & good.view(shape)
        return index.flatten(axes).flatten(0, axes - 1), inside.flatten(axes).flatten(0, axes - 1)

    def _ends(self, starts: Tensor, size: int) -> Tensor:
        """The first coordinate after each window: of an adaptive one ceil((i + 1) n / m)."""
        if not self.traced.kind.startswith("adaptive"):
            return torch.full_like(starts, size)
        count = len(starts)
        return -(-(torch.arange(count, device=starts.device) + 1) * size // count)

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        if self.tiled:
            return TileSelection(value[1], inputs[0].shape, self.window)
        return PlaneSelection(value[1], inputs[0].shape, len(self.window))

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)


def _pools_faster_channels_last(x: Tensor) -> bool:
    """Whether moving the channels last, and what is pooled back, saves time; to the same bits."""
    # There PyTorch compares many channels at once, else one entry at a time.
    return x.dim() == 4 and x.shape[1] >= 8 and x.dtype == torch.float32 and x.is_cpu and x.is_contiguous()


class PlaneSelection(LocalMap):
    """y = x[index] with flat indices into each plane of x (its last ``axes`` axes)."""

    fresh = True

    def __init__(self, index: Tensor, shape: torch.Size, axes: int) -> None:
        self.index = index
        self.shape = shape
        self.axes = axes

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        flat = tangents[0].flatten(-self.axes)
        return flat.gather(-1, self.index.flatten(-self.axes)).view_as(self.index), None

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        # Windows that overlap may have one winner, whose cotangents add up.
        planes = cotangents[0].flatten(-self.axes)
        index = self.index.flatten(-self.axes).expand(planes.shape)
        gradient = planes.new_zeros((*planes.shape[:-1], self.shape[-self.axes :].numel()))
        gradient.scatter_add_(-1, index, planes)
        return (gradient.unflatten(-1, self.shape[-self.axes :]),)


class TileSelection(PlaneSelection):
    """The same for windows that tile the plane, of which no two have one winner."""

    def __init__(self, index: Tensor, shape: torch.Size, window: tuple[int, ...], scale: Tensor | None = None) -> None:
        super().__init__(index, shape, len(window))
        self.window = window
        self.scale = scale  # further factors on the entries of the input
        self._mask: Tensor | None = None
        self._won: Tensor | None = None  # the winners' scale

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return super().mv(tangents if self.scale is None else [scale_by(tangents[0], self.scale)])

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        rows = cotangents[0]
        if rows.dtype == torch.float64 and rows.device.type == "cpu":  # else one multiplication by a mask is faster
            if self._won is None and self.scale is not None:
                self._won = PlaneSelection.mv(self, [self.scale])[0]
            return super().rmv([rows if self._won is None else rows * self._won])
        layout = fastest_layout(rows.flatten(0, 1))
        rows = rows.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, rows.shape[:2])
        mask = self._lay_out(rows)
        folded = (rows.shape[0] * rows.shape[1], *self.shape[1:])
        gradient = torch.empty(folded, dtype=rows.dtype, device=rows.device, memory_format=layout)
        gradient = gradient.unflatten(0, rows.shape[:2])
        sizes = rows.shape[-self.axes :]
        if any(size * step != n for size, step, n in zip(sizes, self.window, self.shape[-self.axes :], strict=True)):
            gradient.zero_()  # what no window covers gets nothing
        # A row's entry broadcasts over the places of its window, and the mask leaves it at the winner's.
        for done in range(self.axes):
            rows = rows.unsqueeze(-1 - 2 * done)
        torch.mul(rows, self._tiles(mask, sizes), out=self._tiles(gradient, sizes))
        return (gradient,)

    def _lay_out(self, rows: Tensor) -> Tensor:
        """One where an entry wins its window, times the scale; kept in the layout of the rows."""
        if self._mask is None or self._mask.dtype != rows.dtype:
            flat = self.index.flatten(-self.axes)
            mask = flat.new_zeros((*flat.shape[:-1], self.shape[-self.axes :].numel()), dtype=rows.dtype)
            mask = mask.scatter_(-1, flat, 1.0).unflatten(-1, self.shape[-self.axes :])
            self._mask = mask if self.scale is None else mask * self.scale
        self._mask = laid_out_as(self._mask, rows, rows.dtype)
        return self._mask

    def _tiles(self, plane: Tensor, sizes: Sequence[int]) -> Tensor:
        """View each spatial axis as (windows, places), leaving out what no window covers."""
        for done in range(self.axes):
            count, places, dim = sizes[-1 - done], self.window[-1 - done], -1 - 2 * done
            plane = plane.narrow(dim, 0, count * places).unflatten(dim, (count, places))
        return plane
