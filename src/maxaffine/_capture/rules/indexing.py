"""Reading and writing entries at given places."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture.batch import matched, probed
from maxaffine._capture.call import Call, Ref
from maxaffine._capture.registry import overloads, rule
from maxaffine._capture.rules.arithmetic import PRODUCT, PRODUCT_CURE
from maxaffine._graph import BatchAxis, Dependence, Operator, Sign

aten = torch.ops.aten


def _constant_index(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Indices that are constants, so that the marks of the probe can be followed."""
    # A computed index is an integer, which holds no NaN: whatever depends on it would look as if it did not.
    integers = [ref for ref in call.refs if not ref.affine and not ref.size and not ref.sample.is_floating_point()]
    if integers:
        call.refuse(
            "it indexes by a value computed from the input, and which samples meet cannot be proved",
            "use torch.gather along an axis other than the batch, F.embedding for a table, torch.where for a mask",
        )
    return probed(call, outputs)


def _table(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Rows of a parameter, as of an embedding, have their samples where the places have them."""
    given = call.arguments.get("indices", [])
    if given and _beside_samples(call["self"], given):
        return BatchAxis()
    places = [(axis, item) for axis, item in enumerate(given) if item is not None]
    if isinstance(call["self"], Ref) or len(places) != 1 or not isinstance(places[0][1], Ref):
        return _constant_index(call, outputs)
    axis, item = places[0]
    batch = item.value.batch
    if batch is None or item.sample.dtype == torch.bool:
        return _constant_index(call, outputs)
    return replace(batch, dim=axis + batch.dim)


def _beside_samples(whole: Any, given: Sequence[Any]) -> bool:
    """Whether constants are the places along axes that follow that of the samples, and nothing moves it."""
    taken = [axis for axis, item in enumerate(given) if item is not None]
    along = isinstance(whole, Ref) and whole.value.batch == BatchAxis() and bool(taken) and taken[0] > 0
    # Tensors with an axis between them put theirs in front of all.
    return along and taken[-1] - taken[0] == len(taken) - 1 and all(isinstance(given[axis], Tensor) for axis in taken)


@rule(*overloads("index.Tensor index_select"), batch=_table)
def index(call: Call) -> Operator:
    """Entries read at constant places."""
    return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)


@rule(*overloads("index_put"), batch=_constant_index)
def index_put(call: Call) -> Operator:
    """Entries written at constant places, or added there."""
    if call.depends("values") and not call["accumulate"] and _written_twice(call):
        call.refuse(
            "it writes several values into one place, and which of them stays is not defined",
            "write each place once, or add the values up with accumulate=True",
        )
    return call.affine(homogeneous=call.joint, sign=Sign.NONNEGATIVE)


def _written_twice(call: Call) -> bool:
    places = call["indices"]
    if any(isinstance(item, Ref) for item in places):
        return False  # refused for another reason
    whole = call["self"].sample if isinstance(call["self"], Ref) else call["self"]
    # Ones added up at the same places count how often each is written.
    ones = torch.ones((), dtype=torch.int64, device=whole.device)
    return bool((aten.index_put(torch.zeros_like(whole, dtype=torch.int64), places, ones, True) > 1).any())


def _along_axis(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    return matched(call, outputs) if isinstance(call["index"], Ref) else probed(call, outputs)


@rule(*overloads("gather"), batch=_along_axis)
def gather(call: Call) -> Operator:
    """Entries read along an axis."""
    return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)


@rule(*overloads("scatter.src scatter.value scatter_add"), batch=_along_axis)
def scatter(call: Call) -> Operator:
    """Entries written along an axis, or added there."""
    return replace(call.affine(sign=Sign.NONNEGATIVE), target=WITH_DERIVATIVE.get(call.target, call.target))


def scatter_last(whole: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """As aten.scatter, whose derivative credits all that is written to one place, while only one entry stays there."""
    # Which of several entries stays is not defined, so the same is asked of their numbers, which shows it.
    numbers = torch.arange(index.numel(), device=index.device).view(index.shape)
    last = torch.full(whole.shape, -1, device=index.device).scatter(dim, index, numbers)
    stays = last.gather(dim, index) == numbers
    return torch.where(last < 0, whole, 0).scatter_add(dim, index, torch.where(stays, _beside(src, index), 0))


def _scatter_add(whole: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """As aten.scatter_add, whose derivative fails where the source is larger than the index."""
    return whole.scatter_add(dim, index, _beside(src, index))


def _beside(src: Tensor, index: Tensor) -> Tensor:
    """The part of the source that is read: as much of it as there is of the index."""
    return src[tuple(map(slice, index.shape))]


@rule(*overloads("scatter_reduce.two index_reduce segment_reduce"))
def reduce(call: Call) -> Operator:
    """Whatever is left after sums, means and extremes were taken apart."""
    if call["reduce"] == "prod":
        call.refuse(PRODUCT, PRODUCT_CURE)
    call.refuse(
        "it reduces along the axis of the samples, or into a part of the other axes",
        "reduce along another axis than that of the samples, with an index as large as the result along all others",
    )


IN_ORDER = (
    "it reads its source in order over the whole batch, so which entries a sample gets depends on the other samples",
    "use a mask that is the same for every sample, and a source with as many entries per sample as it sets; or"
    " torch.where(mask, source.gather(1, (mask.cumsum(1) - 1).clamp(min=0)), x), which counts within each sample",
)
WITH_DERIVATIVE: dict[Callable, Callable] = {aten.scatter.src: scatter_last, aten.scatter_add.default: _scatter_add}


def _rows(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    return _constant_index(call, outputs) if isinstance(call["weight"], Ref) else call["indices"].value.batch


@rule(*overloads("embedding"), batch=_rows)
def embedding(call: Call) -> Operator:
    """A table read at integer places: constant in every float input where the table is a parameter."""
    return replace(call.affine(homogeneous=True, sign=Sign.NONNEGATIVE), target=_look_up)


def _look_up(table: Tensor, places: Tensor, *_: Any) -> Tensor:
    """As aten.embedding, whose derivative leaves out or rescales rows on request (padding_idx, scale_grad_by_freq)."""
    return table[places]


def _in_order(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Each sample reads as many entries as its own part of the source has, so that it reads no other's."""
    mask, source, whole = call["mask"], call["source"], call["self"]
    if isinstance(mask, Ref) and mask.value.dependence is not Dependence.CONSTANT:
        call.refuse(*IN_ORDER)
    axes = {item.value.batch for item in (mask, source, whole) if isinstance(item, Ref)}
    if axes != {BatchAxis()} or not isinstance(source, Ref):
        call.refuse(*IN_ORDER)
    held = mask.sample[:1] if isinstance(mask, Ref) else mask
    if isinstance(mask, Ref) and (mask.sample != held).any():
        call.refuse(*IN_ORDER)
    # A sample's reading starts where those before it stopped: at its own part of the source, if each reads all of its.
    read = held.expand(1, *outputs[0].shape[1:]).sum() if held.dim() < outputs[0].dim() or len(held) == 1 else -1
    return BatchAxis() if int(read) == prod(source.value.units) else call.refuse(*IN_ORDER)


@rule(*overloads("masked_scatter"), batch=_in_order)
def masked_scatter(call: Call) -> Operator:
    """Entries of a source, one after the other, where a constant mask is set."""
    traced = call.affine(homogeneous=call.depends("self") and call.depends("source"), sign=Sign.NONNEGATIVE)
    return replace(traced, target=_write_in_order)


def _write_in_order(whole: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """As aten.masked_scatter, whose derivative has no batched form."""
    mask, whole = torch.broadcast_tensors(mask, whole)
    places = (mask.flatten().cumsum(0) - 1).clamp(min=0)
    return torch.where(mask, source.flatten()[places].view(whole.shape), whole)
