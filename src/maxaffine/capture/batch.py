"""Where samples live: proofs that an operator keeps the samples of a batch apart.

An affine map per sample exists only if no sample's output depends on another sample. Every rule names one of these
proofs; each returns where the output keeps its samples, or refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine.capture.call import Call, Ref, leaves
from maxaffine.graph import BatchAxis, Dependence, as_tuple

BatchRule = Callable[[Call, Sequence[Tensor]], BatchAxis]

PROBES = 3
MIXED = "it mixes the samples of a batch, so no sample has an affine map of its own"
PLACED = "it treats the samples of a batch by their place in it, so no sample has an affine map of its own"
MIXED_CURE = "let the module treat each sample alone (work along the other axes), or capture the part before it"


def batched(call: Call) -> list[tuple[Ref, BatchAxis]]:
    """The arguments that hold a tensor per sample, and where they keep the samples."""
    return [(ref, ref.value.batch) for ref in call.refs if ref.value.batch is not None]


def pointwise(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Entry by entry, with broadcasting: the samples must lie along the same axis in every argument."""
    rank = outputs[0].dim()
    shifted = {BatchAxis(a.dim + rank - ref.sample.dim(), a.outer, a.inner) for ref, a in batched(call)}
    return _agreed(call, shifted)


def leading(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Sample by sample along axis 0 (convolution, pooling over planes)."""
    axis = _agreed(call, {axis for _, axis in batched(call)})
    return axis if axis.dim == 0 else call.refuse(MIXED, MIXED_CURE)


def _agreed(call: Call, axes: set[BatchAxis]) -> BatchAxis:
    """The one axis on which all arguments keep their samples."""
    return next(iter(axes)) if len(axes) == 1 else call.refuse(MIXED, MIXED_CURE)


def along(name: str) -> BatchRule:
    """Along the axes that the argument ``name`` lists, so none of them may carry samples."""

    def prove(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
        ((ref, axis),) = batched(call)
        rank = ref.sample.dim()
        named = call.arguments.get(name)
        listed = range(rank) if named is None or named == [] else leaves([named])
        worked = {int(item) % rank for item in listed}
        if axis.dim in worked:
            call.refuse(MIXED, MIXED_CURE)
        dropped = sum(1 for item in worked if item < axis.dim) if outputs[0].dim() < rank else 0
        return BatchAxis(axis.dim - dropped, axis.outer, axis.inner)

    return prove


def matched(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Indexing along ``dim`` by an index computed from the same samples (gather, scatter)."""
    axis = _agreed(call, {axis for _, axis in batched(call)})
    worked = int(call["dim"]) % max(outputs[0].dim(), 1)
    return axis if axis.dim != worked else call.refuse(MIXED, MIXED_CURE)


def probed(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Any affine operator: mark one sample after another with NaN and see which outputs it reaches.

    A dependence on a sample, however small its slope, turns the output into NaN, so what stays free of NaN
    provably does not depend on it. Each sample must reach its own slab of one axis and nothing else. Samples of the
    same numbers must then have the same slabs, or the operator treats them by their place in the batch.

    Args:
        call: The call.
        outputs: Its outputs on the probe batch.

    Returns:
        Where the outputs keep their samples; several outputs must agree.
    """
    operator = call.affine()
    stand_ins = [_float(ref) for ref in call.refs]
    reached = []
    for sample in range(PROBES):
        marked = [_marked(ref, item, sample) for ref, item in zip(call.refs, stand_ins, strict=True)]
        reached.append([item.isnan() for item in as_tuple(operator(*marked)) if item.is_floating_point()])
    axes = {_slab([marks[place] for marks in reached]) for place in range(len(reached[0]))}
    if None in axes:
        call.refuse(MIXED, MIXED_CURE)
    axis = _agreed(call, {axis for axis in axes if axis is not None})
    for generic in (False, True):
        alike = operator(*(_alike(ref, item, generic) for ref, item in zip(call.refs, stand_ins, strict=True)))
        fronts = [axis.to_front(item) for item in as_tuple(alike) if item.is_floating_point()]
        if not all(_treated_alike(front, rounded=generic) for front in fronts):
            call.refuse(PLACED, MIXED_CURE)
    return axis


def grows(sizes: Sequence[Any], batch: BatchAxis, counts: set[Any]) -> bool:
    """Whether the axis of the samples, and no other, is as many times as long for as many times the samples.

    Args:
        sizes: The traced sizes of a value.
        batch: Where it keeps its samples.
        counts: What stands for the number of samples in traced sizes; what else is unknown there is a constant.

    Returns:
        The answer.
    """
    few, many = (tuple(_size_at(size, count, counts) for size in sizes) for count in (PROBES, 1000 * PROBES))
    factors = [1000 if dim == batch.dim else 1 for dim in range(len(sizes))]
    return many == tuple(size * factor for size, factor in zip(few, factors, strict=True))


def _size_at(size: Any, count: int, counts: set[Any]) -> int:
    """A traced size, for this many samples."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs({symbol: count if symbol in counts else 1 for symbol in expression.free_symbols}))


def _float(ref: Ref) -> object:
    if ref.size or ref.sample.is_floating_point() or ref.value.batch is None:
        return ref.sample
    return torch.zeros(ref.sample.shape, device=ref.sample.device)


def _marked(ref: Ref, item: object, sample: int) -> object:
    if ref.value.batch is None or not isinstance(item, Tensor):
        return item
    marked = torch.zeros_like(item)
    ref.value.batch.to_front(marked)[sample] = float("nan")
    return marked


def _alike(ref: Ref, item: object, generic: bool) -> object:
    """The same in every sample: generic numbers, others in every argument, or zeros, which leave the constants."""
    if ref.value.batch is None or ref.value.dependence is Dependence.HELD or not isinstance(item, Tensor):
        return item
    if not generic:
        return torch.zeros_like(item)
    units = ref.value.units
    places = torch.arange(1, prod(units) + 1, device=item.device, dtype=torch.float64)
    numbers = (places + ref.number / 7).sin().to(item.dtype)
    return ref.value.batch.from_front(numbers.expand(PROBES, -1).reshape(PROBES, *units), item.shape)


def _treated_alike(front: Tensor, rounded: bool) -> bool:
    rtol, atol = (1e-2, 1e-3) if rounded else (0.0, 0.0)
    return torch.allclose(front, front[:1].expand_as(front), rtol, atol, equal_nan=True)


def _slab(marks: list[Tensor]) -> BatchAxis | None:
    """The axis, and its split into outer x samples x inner, that keeps every sample's marks in its own slab."""
    for dim, size in enumerate(marks[0].shape):
        if size % PROBES:
            continue
        rest = size // PROBES
        for outer in (o for o in range(1, rest + 1) if rest % o == 0):
            axis = BatchAxis(dim, outer, rest // outer)
            if all(_alone(axis.to_front(mark), sample) for sample, mark in enumerate(marks)):
                return axis
    return None


def _alone(front: Tensor, sample: int) -> bool:
    others = [other for other in range(PROBES) if other != sample]
    return not bool(front[others].any())
