"""Where samples live: proofs that an operator keeps the samples of a batch apart.

An affine map per sample exists only if no sample's output depends on another sample. Every rule names one of these
proofs; each returns where the output keeps its samples, or refuses.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture.call import Call, Ref, leaves
from maxaffine._graph import BatchAxis, Dependence, Operator, as_tuple
from maxaffine.errors import first_line

BatchRule = Callable[[Call, Sequence[Tensor]], BatchAxis]

PROBES = 3
MANY = 7  # the second number of samples, at least
MOST_SAMPLES = 2**31  # as in the trace; a larger number stands for "to the end"
MOST_NUMBERS = 2**22  # in one trial

# Arguments that name axes, in the schemas of PyTorch's operators.
AXES = ("dim", "dims", "dim0", "dim1", "dim2", "dimension")
# Their numbers are sizes. Entries in the same order keep the samples in the same runs whatever their number, and copies
# along other axes, or of the whole axis, move none.
SIZED = ("reshape", "squeeze", "unsqueeze", "expand", "repeat", "affine_grid_generator")
# How many of the last axes they work along, where the name does not say.
LAST = {"tril": 2, "triu": 2, "pixel_shuffle": 3, "pixel_unshuffle": 3, "im2col": 3, "col2im": 2}
MIXED = "it mixes the samples of a batch, so no sample has an affine map of its own"
PLACED = "it treats the samples of a batch by their place in it, so no sample has an affine map of its own"
MIXED_CURE = "let the module treat each sample alone (work along the other axes), or capture the part before it"


def sample_axes(call: Call) -> list[tuple[Ref, BatchAxis]]:
    """The arguments that hold a tensor per sample, and where they keep the samples."""
    return [(ref, ref.value.batch) for ref in call.refs if ref.value.batch is not None]


def pointwise(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Entry by entry, with broadcasting: the samples must lie along the same axis in every argument."""
    rank = outputs[0].dim()
    shifted = {BatchAxis(a.dim + rank - ref.sample.dim(), a.outer, a.inner) for ref, a in sample_axes(call)}
    return _one_axis(call, shifted)


def leading(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Sample by sample along axis 0 (convolution, pooling over planes)."""
    axis = _one_axis(call, {axis for _, axis in sample_axes(call)})
    return axis if axis.dim == 0 else call.refuse(MIXED, MIXED_CURE)


def _one_axis(call: Call, axes: set[BatchAxis]) -> BatchAxis:
    """The one axis on which all arguments keep their samples."""
    return next(iter(axes)) if len(axes) == 1 else call.refuse(MIXED, MIXED_CURE)


def along(name: str) -> BatchRule:
    """Along the axes that the argument ``name`` lists, so none of them may carry samples."""

    def prove(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
        ((ref, axis),) = sample_axes(call)
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
    axis = _one_axis(call, {axis for _, axis in sample_axes(call)})
    worked = int(call["dim"]) % max(outputs[0].dim(), 1)
    return axis if axis.dim != worked else call.refuse(MIXED, MIXED_CURE)


def probed(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Any affine operator: mark samples with NaN and see which outputs they reach."""
    operator = call.affine()
    # A dependence on a sample, however small its slope, turns the output into NaN, so what stays free of NaN provably
    # does not depend on it. Each sample, marked alone, must reach its own slab of one axis and nothing else.
    reached = [_reach(call, operator, PROBES, [sample]) for sample in range(PROBES)]
    axes = {_slab(marks) for marks in zip(*reached, strict=True)}
    if None in axes:
        call.refuse(MIXED, MIXED_CURE)
    axis = _one_axis(call, {axis for axis in axes if axis is not None})
    # Samples apart may still be treated by their place in the batch: then equal ones have other slabs.
    _check_alike(call, operator, axis, PROBES)
    # Three samples do not show what a number written in the call does further on. A shift by c is the identity for N
    # samples only if N divides c, and what begins c places further on is out of sight only for N <= c: more samples
    # than any such number, and a prime number of them, leave neither. For a PyTorch operator that proves it for every
    # N; of another library's it is as much as a trial with two coprime numbers of samples can tell.
    if meets_samples(call):
        count = _many(call, outputs)
        _check_apart(call, operator, axis, count)
        _check_alike(call, operator, axis, count)
    return axis


def _reach(call: Call, operator: Operator, count: int, samples: Sequence[int]) -> list[Tensor]:
    """Which entries of the outputs some samples of a batch reach."""
    marks = torch.zeros(count)
    marks[list(samples)] = float("nan")
    marked = [_at(ref, count, marks.view(-1, *[1] * len(ref.value.units))) for ref in call.refs]
    return [item.isnan() for item in _floats(call, operator, marked, count)]


def _floats(call: Call, operator: Operator, arguments: Sequence[object], count: int) -> list[Tensor]:
    """The floating-point outputs for a batch of this many samples."""
    return [item for item in as_tuple(run_batch(call, operator, arguments, count)) if item.is_floating_point()]


def run_batch(call: Call, operator: Operator, arguments: Sequence[object], count: int) -> Any:
    """The operator's value for a batch of this many samples."""
    try:
        return operator(*arguments)
    except (RuntimeError, IndexError, ValueError) as error:
        call.refuse(f"it fails on a batch of {count} samples ({first_line(error)})", MIXED_CURE)


def _check_apart(call: Call, operator: Operator, axis: BatchAxis, count: int) -> None:
    """Refuse where a sample of a large batch reaches another's slab."""
    # Any two samples differ in some binary digit of their numbers, so one of these trials marks the one and not the
    # other: 2 log2(N) runs in place of N.
    for digit in range(count.bit_length()):
        for side in (0, 1):
            marked = [sample for sample in range(count) if sample >> digit & 1 == side]
            others = sorted({*range(count)} - {*marked})
            for found in _reach(call, operator, count, marked):
                if not _holds(axis, found, count) or bool(axis.to_front(found)[others].any()):
                    call.refuse(MIXED, MIXED_CURE)


def _check_alike(call: Call, operator: Operator, axis: BatchAxis, count: int) -> None:
    """Refuse where samples of the same numbers have other outputs than each other."""
    # Zeros leave the offset alone, which is compared exactly. With generic numbers sums over long axes round
    # differently from sample to sample, by far less than an operator that tells samples apart changes them.
    for generic, rtol, atol in ((False, 0.0, 0.0), (True, 1e-2, 1e-3)):
        equal = [_at(ref, count, _equal_samples(ref, generic)) for ref in call.refs]
        for item in _floats(call, operator, equal, count):
            front = axis.to_front(item) if _holds(axis, item, count) else None
            if front is None or not torch.allclose(front, front[:1].expand_as(front), rtol, atol, equal_nan=True):
                call.refuse(PLACED, MIXED_CURE)


def _holds(axis: BatchAxis, item: Tensor, count: int) -> bool:
    return item.dim() > axis.dim and item.shape[axis.dim] == axis.outer * count * axis.inner


def meets_samples(call: Call) -> bool:
    """Whether a number that is written in a call may act along the axis of the samples."""
    if not _lone(call):
        return True
    # No where the operator is known to treat all places of that axis alike.
    if call.kind in SIZED or not _numbers_in(call):
        return False
    for ref, axis in sample_axes(call):
        rank = ref.sample.dim()
        worked = _working_axes(call, rank)
        if worked is None or axis.dim in {item % rank for item in worked}:
            return True
    return False


def _lone(call: Call) -> bool:
    """Whether it is one operator of PyTorch, in whose arguments all its numbers are written."""
    return isinstance(call.target, torch._ops.OpOverload) and call.name.startswith("aten.")


def _working_axes(call: Call, rank: int) -> Sequence[int] | None:
    """The axes along which a PyTorch operator works: those that it names, or its last ones; None where unknown."""
    named = [item for name in AXES for item in leaves([call.arguments.get(name)]) if isinstance(item, int)]
    if named:
        return named
    spatial = re.search(r"[1-3](?=d(_|$))", call.kind)
    pads = call.arguments.get("pad") or call.arguments.get("padding")
    if call.kind in ("constant_pad_nd", "pad", "pad_circular") and isinstance(pads, list):
        return [-1 - place // 2 for place, item in enumerate(pads) if item != 0]
    last = int(spatial[0]) if spatial else LAST.get(call.kind)
    return None if last is None else range(-min(last, rank), 0)


def _numbers_in(call: Call) -> set[int]:
    """The numbers written in a call that three samples may not reveal; axes and what says "to the end" do not count."""
    found: set[int] = set()
    for item in [item for name, value in call.arguments.items() if name not in AXES for item in leaves([value])]:
        if isinstance(item, int) and not isinstance(item, bool):
            found.add(abs(item))
        elif isinstance(item, Ref) and isinstance(item.traced, torch.SymInt) and not item.traced.node.expr.is_Symbol:
            found |= {PROBES, *(abs(int(atom)) for atom in item.traced.node.expr.atoms() if atom.is_Integer)}
    # Of several operators as one, what is written in each of them.
    for operator, _ in getattr(call.target, "steps", ()):
        written = leaves([*operator.args, *operator.kwargs.values()])
        found |= {abs(item) for item in written if isinstance(item, int) and not isinstance(item, bool)}
    return {number for number in found if PROBES <= number < MOST_SAMPLES}


def _many(call: Call, outputs: Sequence[Tensor]) -> int:
    """A prime number of samples beyond all numbers written in a call, as far as there is room."""
    written = max(_numbers_in(call), default=0)
    count = prime(max(MANY, written + 1))
    tensors = [*(ref.sample for ref, _ in sample_axes(call)), *outputs]
    room = MOST_NUMBERS * PROBES // max(1, sum(item.numel() for item in tensors))
    if count <= max(room, MANY):
        return count
    if _lone(call):
        call.refuse(
            f"the number {written} is written in it, and whether it keeps so many samples apart cannot be tried",
            MIXED_CURE,
        )
    return prime(max(room // 2, MANY))  # there is a prime between any number and its double


def prime(least: int) -> int:
    """The smallest prime from a number on."""
    while any(least % factor == 0 for factor in range(2, isqrt(least) + 1)):
        least += 1
    return least


def grows(sizes: Sequence[Any], batch: BatchAxis) -> bool:
    """Whether the axis of the samples, and no other, is as many times as long for as many times the samples."""
    # On three samples two axes may both look like theirs. The traced sizes are formulas in the number of samples, and
    # tell at other numbers, of which no small divisor is common to all.
    few = [_size_at(size, PROBES) for size in sizes]
    return all(
        _size_at(size, count) * PROBES == own * (count if dim == batch.dim else PROBES)
        for count in (MANY, 1000 * PROBES, 1000 * PROBES + 1)
        for dim, (size, own) in enumerate(zip(sizes, few, strict=True))
    )


def _size_at(size: Any, count: int) -> int:
    """A traced size, for this many samples; how many entries a constant mask keeps does not depend on them."""
    if isinstance(size, int):
        return size
    known, expression = size.node.shape_env, size.node.expr
    if expression.is_Symbol:
        return 1 if known.is_unbacked_symint(expression) else count
    symbols = {symbol: 1 if known.is_unbacked_symint(symbol) else count for symbol in expression.free_symbols}
    return int(expression.subs(symbols))


def _at(ref: Ref, count: int, front: Tensor | None) -> object:
    """An argument for a batch of this many samples, filled with numbers (N, *units); with its own where None."""
    if ref.size:
        return _size_at(ref.traced, count)
    axis = ref.value.batch
    if axis is None:
        return ref.sample
    own = axis.to_front(ref.sample)
    shape = list(ref.sample.shape)
    shape[axis.dim] = axis.outer * count * axis.inner
    front = own[:1] if front is None else front
    # An integer holds no NaN, so a float takes its place.
    dtype = ref.sample.dtype if ref.sample.is_floating_point() else torch.float32
    return axis.from_front(front.to(own.device, dtype).expand(count, *ref.value.units), shape)


def _equal_samples(ref: Ref, generic: bool) -> Tensor | None:
    """The same in every sample: generic numbers, others in every argument, or zeros, which leave the constants."""
    # Sines at whole numbers are in no simple ratios, so that slopes do not cancel.
    if ref.value.batch is None or ref.value.dependence is Dependence.CONSTANT:
        return None
    units = ref.value.units
    places = torch.arange(1, prod(units) + 1, dtype=torch.float64)
    return ((places + ref.number / 7).sin() if generic else 0 * places).view(1, *units)


def _slab(marks: Sequence[Tensor]) -> BatchAxis | None:
    """The axis, and its split into outer x samples x inner, that keeps every sample's marks in its own slab."""
    # Samples may be folded into an axis of units: of the ways to divide it the first that fits is taken.
    for axis in splits(marks[0].shape, PROBES):
        fronts = [axis.to_front(mark) for mark in marks]
        if not any(bool(fronts[own][other].any()) for own, other in permutations(range(PROBES), 2)):
            return axis
    return None


def splits(shape: Sequence[int], count: int) -> Iterator[BatchAxis]:
    """Every way in which a value of this shape could keep so many samples."""
    for dim, size in enumerate(shape):
        rest = size // count if size % count == 0 else 0
        yield from (BatchAxis(dim, outer, rest // outer) for outer in range(1, rest + 1) if rest % outer == 0)
