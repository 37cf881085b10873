"""Changes of shape, order and type: the same entries elsewhere."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from maxaffine._capture.batch import pointwise
from maxaffine._capture.call import Call
from maxaffine._capture.registry import overloads, rule
from maxaffine._graph import Comparison, Operator, Permutation, Reshape, Sign, Transposable

aten = torch.ops.aten


MOVES = """
    expand slice.Tensor select.int cat repeat split_with_sizes unfold diagonal flip roll tril triu
    pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im diagonal_scatter
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
"""


@rule(*overloads("reshape unsqueeze squeeze.dims squeeze.dim"), sizes=True)
def reshape(call: Call) -> Operator:
    """The same entries in the same order under another shape."""
    return Reshape(call.affine(homogeneous=True))


@rule(aten.permute.default)
def permute(call: Call) -> Operator:
    """The axes in another order."""
    return Permutation(call.affine(homogeneous=True, sign=Sign.NONNEGATIVE), tuple(call["dims"]))


@rule(*overloads(MOVES), sizes=True)
def move(call: Call) -> Operator:
    """Entries copied, moved, left out or added up."""
    # Constants that are mixed in, as cat and scatter do, are the offset.
    moved = call.affine(homogeneous=call.joint, sign=Sign.NONNEGATIVE)
    if call.kind == "select" and isinstance(call["index"], int):
        return Transposable(moved, partial(put_back, dim=call["dim"], place=call["index"]))
    return moved


def put_back(rows: Tensor, shape: torch.Size, dim: int, place: int) -> Tensor:
    """The transpose of a choice: zero beside the place."""
    whole = rows.new_zeros(len(rows), *shape)
    whole.select(dim % len(shape) + 1, place).copy_(rows)
    return whole


@rule(*overloads("slice_scatter"), sizes=True)
def slice_scatter(call: Call) -> Operator:
    """A tensor with one of its slices replaced."""
    return replace(call.affine(homogeneous=call.joint, sign=Sign.NONNEGATIVE), target=replace_slice)


def replace_slice(whole: Tensor, part: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    """As aten.slice_scatter, whose batched derivative PyTorch 2.13 does not have."""
    # The places that a slice reads, from the same slice of all of them.
    places = torch.arange(whole.shape[dim], device=whole.device)[start:end:step]
    return whole.index_copy(dim, places, part)


@rule(*overloads("copy"), batch=pointwise)
def copy(call: Call) -> Operator:
    """The second tensor, in the shape of the first."""
    if not call["self"].sample.is_floating_point() and call.active:
        call.refuse("writing a float into integers rounds it", "keep the value in floating point")
    return replace(call.affine(homogeneous=call.depends("src"), sign=Sign.NONNEGATIVE), target=copy_of)


def copy_of(whole: Tensor, part: Tensor, non_blocking: bool = False) -> Tensor:
    """As aten.copy, which has no derivative."""
    return part.to(whole.dtype).expand(whole.shape)


@rule(*overloads("constant_pad_nd pad _pad_circular"))
def pad(call: Call) -> Operator:
    """Padding by a constant, or by the tensor's own entries (reflect, replicate, circular)."""
    return call.affine(homogeneous=not call.arguments.get("value"), sign=Sign.NONNEGATIVE)


@rule(*overloads("_to_copy"), batch=pointwise)
def convert(call: Call) -> Operator:
    """Another floating-point type, or true where an entry is not zero."""
    dtype = call["dtype"]
    if dtype is torch.bool:
        return Comparison(call.affine())
    if dtype is not None and not dtype.is_floating_point:
        call.refuse(f"rounding to {dtype} has infinitely many pieces", "keep the value in floating point")
    return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)
