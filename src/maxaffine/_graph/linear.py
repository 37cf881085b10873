"""Affine operators on the hot path: convolution, matrix product, batch-norm, sums and changes of shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maxaffine._graph.contract import Columns, LocalMap, Operator, Sign, Tensors, Traits
from maxaffine._graph.frozen import Affine, Slot, Traced, TracedAffine, fill
from maxaffine._graph.overflow import all_finite

aten = torch.ops.aten


def fastest_layout(tensor: Tensor) -> torch.memory_format:
    """The memory layout in which PyTorch's CPU convolutions run fastest: channels last in float32 and below."""
    slow = tensor.dim() != 4 or tensor.device.type != "cpu" or tensor.dtype == torch.float64
    return torch.contiguous_format if slow else torch.channels_last


def laid_out_as(tensor: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor (N, C, H, W) in the dtype and the memory layout of rows (R, N, C, H, W): mixed layouts are slow."""
    last = rows.dim() == 5 and tensor.dim() == 4 and rows.stride(2) == 1
    return tensor.to(dtype, memory_format=torch.channels_last if last else torch.preserve_format)


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """y = C x + b_C, also grouped, dilated and transposed, in one to three dimensions."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    kind: str = "convolution"

    def _geometry(self) -> tuple:
        return self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups

    @property
    def traits(self) -> Traits:
        return Traits(self.kind)

    def __call__(self, *inputs: Any) -> Any:
        return aten.convolution.default(inputs[0], self.weight, self.bias, *self._geometry())

    def plain(self) -> Operator:
        return Affine(self.kind, _convolve, (Slot(0), self.weight, self.bias, *self._geometry()), {}, (0,))

    @property
    def channel_axis(self) -> int:
        return 0

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return ConvolutionMap(self, inputs[0].shape)

    @property
    def gain(self) -> float:
        # As measured: PyTorch's convolutions in float64 are slower than its matrix products, those of single channels
        # most of all.
        return 10.0 if self.groups > 1 and self.weight.shape[1] == 1 else 4.0

    @property
    def blocks(self) -> int:
        return self.groups

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.of(self.weight),)

    def rescale(self, scale: Tensor, shift: Tensor) -> Convolution:
        """The convolution followed by y -> scale * y + shift per channel, as one convolution."""
        ones = self.channel_shape()
        # A transposed weight has its outputs on axis 1, those of each group alone.
        if self.transposed:
            grouped = self.weight.unflatten(0, (self.groups, -1))
            weight = (grouped * scale.view(self.groups, 1, -1, *ones)).flatten(0, 1)
        else:
            weight = self.weight * scale.view(-1, 1, *ones)
        # s (C x + b) + t = (s C) x + s b + t.
        return replace(self, weight=weight, bias=shift if self.bias is None else self.bias * scale + shift)

    @property
    def few_inputs(self) -> bool:
        """Whether it reads so few channels that a matrix product beats PyTorch's own input gradient on a CPU."""
        plain = not self.transposed and self.groups == 1 and self.weight.dim() == 4
        return plain and self.weight.shape[1] <= 4

    def channel_shape(self) -> list[int]:
        return [1] * (self.weight.dim() - 2)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    """As aten.convolution, which autocast does not know."""
    stride, padding, dilation, transposed, output_padding, groups = geometry
    axes = weight.dim() - 2
    if transposed:
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        return function(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return (F.conv1d, F.conv2d, F.conv3d)[axes - 1](x, weight, bias, stride, padding, dilation, groups)


class ConvolutionMap(LocalMap):
    """The linear map of a convolution; its transpose is PyTorch's input gradient, rows folded into the batch."""

    fresh = True

    def __init__(self, operator: Convolution, shape: torch.Size) -> None:
        self.operator = operator
        self.shape = shape

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        operator = self.operator
        return (aten.convolution.default(tangents[0], operator.weight, None, *operator._geometry()),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        rows = cotangents[0]
        folded = rows.flatten(0, 1)
        operator = self.operator
        # The transpose as a matrix product: every entry of a row weighs a window, and windows are added where they
        # overlap.
        if operator.few_inputs and rows.device.type == "cpu":
            columns = operator.weight.flatten(1).mT @ folded.flatten(2)
            sizes = (self.shape[-2:], operator.weight.shape[-2:])
            gradient = F.fold(columns, *sizes, operator.dilation, operator.padding, operator.stride)
            return (gradient.unflatten(0, rows.shape[:2]),)
        # Only the input's gradient is asked for, of which PyTorch reads no numbers of the input: its shape will do.
        layout = fastest_layout(folded)
        folded = folded.contiguous(memory_format=layout)
        shape = (folded.shape[0], *self.shape[1:])
        like = torch.empty(shape, dtype=rows.dtype, device=rows.device, memory_format=layout)
        gradient = aten.convolution_backward.default(
            folded, like, operator.weight, None, *operator._geometry(), [True, False, False]
        )[0]
        return (gradient.unflatten(0, rows.shape[:2]),)

    def columns(self, units: Tensor) -> Columns:
        operator, groups = self.operator, self.operator.groups
        like = torch.empty((1, *self.shape[1:]), dtype=operator.weight.dtype, device="meta")
        sizes = aten.convolution.default(like, operator.weight.to("meta"), None, *operator._geometry()).shape[1:]
        channel, *coordinates = torch.unravel_index(units, self.shape[1:])
        # Axis by axis, where an entry goes by each place of the kernel, (entries, places of the kernel).
        place, good = units.new_zeros(len(units), 1), torch.ones(len(units), 1, dtype=torch.bool, device=units.device)
        for axis, at in enumerate(coordinates):
            stride, size = operator.stride[axis], sizes[1 + axis]
            taps = operator.dilation[axis] * torch.arange(operator.weight.shape[2 + axis], device=units.device)
            if operator.transposed:
                to, whole = at[:, None] * stride - operator.padding[axis] + taps, True
            else:
                ahead = at[:, None] + operator.padding[axis] - taps
                to, whole = ahead.div(stride, rounding_mode="floor"), ahead % stride == 0
            inside = whole & (to >= 0) & (to < size)
            place = (place[:, :, None] * size + to[:, None]).flatten(1)
            good = (good[:, :, None] & inside[:, None]).flatten(1)
        column, tap = torch.nonzero(good, as_tuple=True)
        # The weights of each channel of the input, (C, channels out of its group, places of the kernel).
        weight = operator.weight.flatten(2)
        if not operator.transposed:
            weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        first = channel[column] // (self.shape[1] // groups) * weight.shape[1]
        row = (first[:, None] + torch.arange(weight.shape[1], device=units.device)) * prod(sizes[1:])
        row = row + place[column, tap][:, None]
        value = weight[channel[column], :, tap]
        return Columns(column[:, None].expand(row.shape).flatten(), row.flatten(), value.flatten())

    def offsets(self) -> Tensors:
        bias = self.operator.bias
        return (None if bias is None else bias.view(-1, *self.operator.channel_shape()),)


@dataclass(frozen=True, eq=False)
class MatrixProduct(Traced, LocalMap):
    """y = x W + b on the last axis, W (in, out) shared by all samples, computed by the traced operator itself."""

    weight: Tensor
    bias: Tensor | None
    fresh = True

    @property
    def channel_axis(self) -> int:
        return -1

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return self  # the same map everywhere

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.of(self.weight),)

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (tangents[0] @ self.weight,)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return (cotangents[0] @ self.weight.mT,)

    def columns(self, units: Tensor) -> Columns:
        width, count = self.weight.shape
        row = (units // width * count)[:, None] + torch.arange(count, device=units.device)
        column = torch.arange(len(units), device=units.device)[:, None].expand(row.shape)
        return Columns(column.flatten(), row.flatten(), self.weight[units % width].flatten())

    def offsets(self) -> Tensors:
        return (self.bias,)


@dataclass(frozen=True, eq=False)
class ChannelAffine(Traced):
    """y = scale * x + shift per channel (axis 1): batch-norm in evaluation mode."""

    scale: Tensor
    shift: Tensor

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        ones = [1] * (inputs[0].dim() - 2)
        return Scaling(self.scale.view(-1, *ones), self.shift.view(-1, *ones))

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.of(self.scale),)


class Scaling(LocalMap):
    """y = scale * x + shift entry by entry, scale and shift broadcast over the batch."""

    fresh = True

    def __init__(self, scale: Tensor, shift: Tensor | None) -> None:
        self.scale = scale
        self.shift = shift

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (tangents[0] * self.scale,)

    def _laid_out(self, rows: Tensor) -> Tensor:
        self.scale = laid_out_as(self.scale, rows, self.scale.dtype)
        return self.scale

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return (cotangents[0] * self._laid_out(cotangents[0]),)

    def rmv_owned(self, cotangents: Sequence[Any]) -> Tensors:
        rows = cotangents[0]
        if torch.promote_types(rows.dtype, self.scale.dtype) != rows.dtype:
            return self.rmv(cotangents)
        return (rows.mul_(self._laid_out(rows)),)

    def offsets(self) -> Tensors:
        return (self.shift,)


@dataclass(frozen=True, eq=False)
class Multiple(TracedAffine):
    """A factor that does not depend on the input, or is held there, times what does."""

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        (carrier,) = self.traced.active
        whole = inputs[carrier]
        # By its place, for in u * u both factors are one tensor.
        factor = fill(next(item for item in self.traced.args if item != Slot(carrier)), inputs)
        if whole.shape != value.shape or whole.dtype != value.dtype:  # what broadcasts is summed on the way back
            return self.traced.local(inputs, value)
        factor = factor if isinstance(factor, Tensor) else value.new_tensor(factor)
        if all_finite(factor):
            return Scaling(factor, None)
        # What a gate makes infinite does not move, as in xlogy(0, 0): its slope is zero, its value an offset.
        finite = factor.isfinite().expand(value.shape)
        return Scaling(torch.where(finite, factor, 0), torch.where(finite | value.isnan(), 0, value))


@dataclass(frozen=True, eq=False)
class Permutation(Traced, LocalMap):
    """The same entries with their axes in another order."""

    dims: tuple[int, ...]

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return self

    def carried(self, axis: int, old: Sequence[int], new: Sequence[int]) -> int | None:
        # The first axis is that of the samples, which a permutation of one sample's own axes leaves where it is.
        dims = [dim % len(self.dims) for dim in self.dims]
        return dims.index(axis + 1) - 1 if dims[0] == 0 and len(dims) == len(old) + 1 else None

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (tangents[0].permute(self.dims),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        places = [dim % len(self.dims) for dim in self.dims]
        return (cotangents[0].permute(0, *(1 + places.index(axis) for axis in range(len(places)))),)


@dataclass(frozen=True, eq=False)
class Sum(Traced, LocalMap):
    """y = x_1 + s x_2 of two dependent tensors of one shape: the skip connection."""

    factor: float

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        # What broadcasts is summed on the way back, as PyTorch's derivative does.
        return self if inputs[0].shape == inputs[1].shape else self.traced.local(inputs, value)

    def signs(self) -> tuple[Sign, ...]:
        return Sign.NONNEGATIVE, Sign.NONNEGATIVE if self.factor >= 0 else Sign.NONPOSITIVE

    def _times(self, tensor: Tensor) -> Tensor:
        return tensor if self.factor == 1 else tensor * self.factor

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (tangents[0] + self._times(tangents[1]),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return cotangents[0], self._times(cotangents[0])


@dataclass(frozen=True, eq=False)
class Shift(TracedAffine):
    """y = x + c, c constant or held."""

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        (moving,) = self.traced.active
        offset = self.traced(*(item if place != moving else item.new_zeros(()) for place, item in enumerate(inputs)))
        # What broadcasts is summed on the way back; what a mask makes infinite does not move.
        plain = inputs[moving].shape == value.shape and inputs[moving].dtype == value.dtype and all_finite(offset)
        return ShiftMap(offset) if plain else self.traced.local(inputs, value)


class ShiftMap(LocalMap):
    """y = x + c."""

    def __init__(self, offset: Tensor) -> None:
        self.offset = offset

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (tangents[0],)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return (cotangents[0],)

    def offsets(self) -> Tensors:
        return (self.offset,)


@dataclass(frozen=True, eq=False)
class Transposable(TracedAffine):
    """A linear operator whose transpose is written down, which spares differentiating it row by row.

    Attributes:
        transpose: Rows of cotangents (R, *output) and the input's shape to (R, *input).
    """

    transpose: Callable[[Tensor, torch.Size], Tensor]

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return TransposableMap(self, inputs[0].shape)


class TransposableMap(LocalMap):
    """The linear map of an operator whose transpose is written down."""

    def __init__(self, operator: Transposable, shape: torch.Size) -> None:
        self.operator = operator
        self.shape = shape

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (self.operator(tangents[0]),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return (self.operator.transpose(cotangents[0], self.shape),)


@dataclass(frozen=True, eq=False)
class Reshape(Traced):
    """The same entries under another shape."""

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return ReshapeMap(inputs[0].shape, value.shape)

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,)


class ReshapeMap(LocalMap):
    """The linear map of a change of shape."""

    def __init__(self, shape: torch.Size, output_shape: torch.Size) -> None:
        self.shape = shape
        self.output_shape = output_shape

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (tangents[0].reshape(self.output_shape),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return (cotangents[0].reshape(cotangents[0].shape[0], *self.shape),)
