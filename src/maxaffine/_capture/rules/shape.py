"""Changes of shape, order and type: the same entries elsewhere."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from maxaffine._capture.batch import pointwise
from maxaffine._capture.call import Call
from maxaffine._capture.registry import rule
from maxaffine._graph import Comparison, Operator, Reshape, Sign

aten = torch.ops.aten


@rule(
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.dims,
    aten.squeeze.dim,
    sizes=True,
)
def reshape(call: Call) -> Operator:
    """The same entries in the same order under another shape."""
    traced = call.affine(homogeneous=True)
    return Reshape(traced, kind=call.kind)


@rule(
    aten.permute.default,
    aten.expand.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.cat.default,
    aten.repeat.default,
    aten.split_with_sizes.default,
    aten.unfold.default,
    aten.diagonal.default,
    aten.flip.default,
    aten.roll.default,
    aten.tril.default,
    aten.triu.default,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.channel_shuffle.default,
    aten.im2col.default,
    aten.col2im.default,
    aten.diagonal_scatter.default,
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.reflection_pad3d.default,
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.replication_pad3d.default,
    sizes=True,
)
def move(call: Call) -> Operator:
    """Entries copied, moved, left out or added up."""
    return call.affine(homogeneous=call.joint, sign=Sign.NONNEGATIVE)


@rule(aten.slice_scatter.default, sizes=True)
def slice_scatter(call: Call) -> Operator:
    """A tensor with one of its slices replaced."""
    traced = call.affine(homogeneous=call.joint, sign=Sign.NONNEGATIVE)
    return replace(traced, target=slice_replaced)


def slice_replaced(whole: Tensor, part: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    """As aten.slice_scatter, whose batched derivative PyTorch 2.13 does not have."""
    places = torch.arange(whole.shape[dim], device=whole.device)[start:end:step]
    return whole.index_copy(dim, places, part)


@rule(aten.copy.default, batch=pointwise)
def copy(call: Call) -> Operator:
    """The second tensor, in the shape of the first."""
    if not call["self"].sample.is_floating_point() and call.active:
        call.refuse("writing a float into integers rounds it", "keep the value in floating point")
    return replace(call.affine(homogeneous=call.depends("src"), sign=Sign.NONNEGATIVE), target=copied)


def copied(whole: Tensor, part: Tensor, non_blocking: bool = False) -> Tensor:
    """As aten.copy, which has no derivative."""
    return part.to(whole.dtype).expand(whole.shape)


@rule(aten.constant_pad_nd.default, aten.pad.default, aten._pad_circular.default)
def pad(call: Call) -> Operator:
    """Padding by a constant, or by the tensor's own entries (reflect, replicate, circular)."""
    return call.affine(homogeneous=not call.arguments.get("value"), sign=Sign.NONNEGATIVE)


@rule(aten._to_copy.default, batch=pointwise)
def convert(call: Call) -> Operator:
    """Another floating-point type, or true where an entry is not zero."""
    dtype = call["dtype"]
    if dtype is torch.bool:
        return Comparison(call.affine())
    if dtype is not None and not dtype.is_floating_point:
        call.refuse(f"rounding to {dtype} has infinitely many pieces", "keep the value in floating point")
    return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)
