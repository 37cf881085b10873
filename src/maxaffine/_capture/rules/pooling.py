"""Max-pooling and its inverse, by given indices."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture.batch import leading
from maxaffine._capture.call import Call
from maxaffine._capture.registry import overloads, rule
from maxaffine._capture.rules.indexing import scatter_last
from maxaffine._graph import MaxPool, Operator, Sign


@rule(*overloads("max_pool2d_with_indices max_pool3d_with_indices"), batch=leading)
def max_pool(call: Call) -> Operator:
    """Maximum over windows of a fixed size."""
    axes = 2 if call.kind.startswith("max_pool2d") else 3
    window = per_axis(call["kernel_size"], axes)
    stride = per_axis(call["stride"] or window, axes)
    padding = per_axis(call["padding"], axes)
    dilation = per_axis(call["dilation"], axes)
    sample = call["self"].sample
    sizes = call.target(sample, *(call[name] for name in call.positional[1:]))[0].shape[-axes:]
    geometry = zip(sizes, stride, padding, strict=True)
    starts = tuple(torch.arange(size, device=sample.device) * step - pad for size, step, pad in geometry)
    # Windows that lie side by side from the corner on, all of them whole: every entry belongs to one at most.
    inside = all(size * step <= n for size, step, n in zip(sizes, stride, sample.shape[-axes:], strict=True))
    tiled = stride == window and not any(padding) and set(dilation) == {1} and inside
    return MaxPool(call.affine(kind=f"max_pool{axes}d"), starts, window, dilation, tiled)


@rule(*overloads("adaptive_max_pool2d adaptive_max_pool3d"), batch=leading)
def adaptive_max_pool(call: Call) -> Operator:
    """Maximum over windows [floor(i n / m), ceil((i + 1) n / m))."""
    targets, sample = call["output_size"], call["self"].sample
    axes = [
        (torch.arange(m, device=sample.device), n, m)
        for n, m in zip(sample.shape[-len(targets) :], targets, strict=True)
    ]
    starts = tuple(place * n // m for place, n, m in axes)
    ends = [-(-(place + 1) * n // m) for place, n, m in axes]
    # Windows differ in size by one where m does not divide n; the largest counts, and the others lack its last place.
    window = tuple(int((end - start).max()) for start, end in zip(starts, ends, strict=True))
    tiled = all(n % m == 0 for _, n, m in axes)
    return MaxPool(call.affine(), starts, window, (1,) * len(targets), tiled)


def per_axis(value: Sequence[int] | int, axes: int) -> tuple[int, ...]:
    """One number for every axis, or a number each."""
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * axes if len(values) == 1 else values)


@rule(*overloads("max_unpool2d max_unpool3d"), batch=leading)
def max_unpool(call: Call) -> Operator:
    """Entries put back where the given indices say, zeros elsewhere."""
    return replace(call.affine(homogeneous=True, sign=Sign.NONNEGATIVE), target=_unpool)


def _unpool(x: Tensor, indices: Tensor, output_size: Sequence[int], *_: Any) -> Tensor:
    """As aten.max_unpool, whose derivative is wrong where windows overlap and put several entries into one place."""
    axes = len(output_size)
    zeros = x.new_zeros(*x.shape[:-axes], prod(output_size))
    return scatter_last(zeros, -1, indices.flatten(-axes), x.flatten(-axes)).unflatten(-1, tuple(output_size))
