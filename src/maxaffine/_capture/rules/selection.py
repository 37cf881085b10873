"""The largest, smallest, middle or ordered entries: each unit selects one entry of its input."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture.batch import along, pointwise
from maxaffine._capture.call import Call, leaves
from maxaffine._capture.registry import overloads, rule
from maxaffine._graph import AxisSelection, Choice, Operator, Order


@rule(*overloads("maximum minimum fmax fmin"), batch=pointwise)
def maximum(call: Call) -> Operator:
    """The larger or the smaller of two values."""
    return Choice(call.affine(), largest=call.kind in ("maximum", "fmax"))


@rule(*overloads("amax max.dim"), batch=along("dim"))
def largest(call: Call) -> Operator:
    """The maximum over axes."""
    return _reduce(call, _highest, Order.LARGEST)


def _highest(flat: Tensor, _: Any) -> Tensor:
    return flat.argmax(-1, keepdim=True)


def _lowest(flat: Tensor, _: Any) -> Tensor:
    return flat.argmin(-1, keepdim=True)


@rule(*overloads("amin min.dim"), batch=along("dim"))
def smallest(call: Call) -> Operator:
    """The minimum over axes."""
    return _reduce(call, _lowest, Order.LARGEST, factor=-1)


@rule(*overloads("median.dim nanmedian.dim kthvalue"), batch=along("dim"))
def ranked(call: Call) -> Operator:
    """The entry of one rank along an axis; the lowest one at a tie, which PyTorch's own place is not."""
    return _reduce(call, partial(_first_equal, int(call["dim"]), bool(call["keepdim"])), Order.RANK)


def _first_equal(axis: int, kept: bool, flat: Tensor, value: Sequence[Tensor]) -> Tensor:
    # argmax finds the first of the entries that equal the value, which is one of them.
    picked = value[0] if kept else value[0].unsqueeze(axis)
    return (flat == picked.movedim(axis, -1)).to(torch.uint8).argmax(-1, keepdim=True)


def _reduce(call: Call, winners: Callable, order: Order, factor: int = 1) -> Operator:
    sample = call["self"].sample
    dims = call["dim"]
    # No axis stands for all of them.
    listed = range(sample.dim()) if dims is None or dims == [] else leaves([dims])
    axes = tuple(sorted({int(item) % sample.dim() for item in listed}))
    keep = axes if call["keepdim"] else ()
    pieces = prod(sample.shape[axis] for axis in axes)
    return AxisSelection(call.affine(), winners, axes, keep, pieces, order, factor)


@rule(*overloads("sort sort.stable topk"), batch=along("dim"))
def ordered(call: Call) -> Operator:
    """Several entries along an axis in order; in the order of their places at a tie, which PyTorch's own is not."""
    sample, axis = _axis(call)
    count = call.arguments.get("k", sample.shape[axis])
    falling = bool(call.arguments.get("descending", call.arguments.get("largest")))
    # Unsorted, PyTorch says which entries are the largest, in an order of its own, so their places are taken from it.
    in_order = bool(call.arguments.get("sorted", True))
    winners = partial(_stable, falling, count) if in_order else partial(_given_places, axis)
    factor = 1 if falling else -1
    return AxisSelection(call.affine(), winners, (axis,), None, sample.shape[axis], Order.SORTED, factor, in_order)


def _axis(call: Call) -> tuple[Tensor, int]:
    """What is selected from, on the probe batch, and its one axis."""
    sample = call["self"].sample
    return sample, int(call["dim"]) % sample.dim()


def _stable(falling: bool, count: int, flat: Tensor, _: Any) -> Tensor:
    return flat.sort(dim=-1, descending=falling, stable=True).indices[..., :count]


def _given_places(axis: int, _: Tensor, value: Sequence[Tensor]) -> Tensor:
    return value[1].movedim(axis, -1)


@rule(*overloads("cummax cummin"), batch=along("dim"))
def running(call: Call) -> Operator:
    """The running extreme along an axis; it stays where it is at a tie, while PyTorch's own place moves on."""
    sample, axis = _axis(call)
    factor = 1 if call.kind == "cummax" else -1
    winners = partial(_last_changes, axis)
    return AxisSelection(call.affine(), winners, (axis,), None, sample.shape[axis], Order.LARGEST, factor)


def _last_changes(axis: int, _: Tensor, value: Sequence[Tensor]) -> Tensor:
    # Where the extreme is another than one place before, it has just been set there; a tie leaves it, and its place.
    extreme = value[0].movedim(axis, -1)
    places = torch.arange(extreme.shape[-1], device=extreme.device)
    return torch.where(extreme != extreme.roll(1, -1), places, 0).cummax(-1).values
