"""Reductions of entries that share a number, written with operators that have rules: scatter, index and segment reduce.

A sum adds entries where the index says. A largest or smallest entry is picked among candidates, one row per place: what
stands there first, then every source entry, each that belongs elsewhere replaced by what stands there. The replacement
ties with the first candidate, and the lowest wins a tie, so it never wins: no infinite number is needed, and the code
says which entry won (0: what stood there, or the first that belongs there where that does not count; k: entry k - 1).
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

EXTREMES = ("amax", "amin")


def scatter_reduce(
    whole: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """As aten.scatter_reduce; NotImplemented for a product, and where the index does not cover the other axes."""
    axis = dim % whole.dim()
    if not _covers(whole, index, axis) or not (whole.is_floating_point() or reduce in ("sum", *EXTREMES)):
        return NotImplemented
    src = src[tuple(map(slice, index.shape))]
    if reduce in EXTREMES:
        return _extreme(whole, axis, index, src, reduce, include_self)
    if reduce not in ("sum", "mean"):
        return NotImplemented
    counts = torch.zeros_like(whole).scatter_add(axis, index, torch.ones_like(src))
    kept = whole if include_self else torch.where(counts > 0, 0, whole)
    total = kept.scatter_add(axis, index, src)
    return total if reduce == "sum" else total / (counts + 1 if include_self else counts.clamp(min=1))


def _covers(whole: Tensor, index: Tensor, axis: int) -> bool:
    """Whether the index reaches all of every axis but one, whose length is not the number of samples."""
    sizes = zip(whole.shape, index.shape, strict=True) if whole.dim() == index.dim() else ()
    # With it comes sympy, half a second, so it is not imported with the library.
    known: Any = importlib.import_module("torch.fx.experimental.symbolic_shapes").statically_known_true
    others = [known(a == b) for place, (a, b) in enumerate(sizes) if place != axis]
    return len(others) == whole.dim() - 1 and all(others) and isinstance(whole.shape[axis], int)


def _extreme(whole: Tensor, axis: int, index: Tensor, src: Tensor, reduce: str, include_self: bool) -> Tensor:
    places = torch.arange(whole.shape[axis], device=whole.device).view(-1, *[1] * (whole.dim() - axis))
    belongs = index.unsqueeze(axis) == places
    base = whole
    if not include_self:
        # Of the entries that belong to a place any may stand first; the lowest of them keeps ties decided by order.
        first = src.gather(axis, belongs.to(torch.uint8).argmax(axis + 1))
        base = torch.where(belongs.any(axis + 1), first, whole)
    base = base.unsqueeze(axis + 1)
    candidates = torch.cat([base, torch.where(belongs, src.unsqueeze(axis), base)], axis + 1)
    return candidates.amax(axis + 1) if reduce == "amax" else candidates.amin(axis + 1)


def index_reduce(
    whole: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """As aten.index_reduce: one index for all entries along the other axes."""
    axis = dim % whole.dim()
    spread = index.view(-1, *[1] * (whole.dim() - axis - 1)).expand(source.shape)
    return scatter_reduce(whole, axis, spread, source, reduce, include_self=include_self)


def segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    indices: Tensor | None = None,
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: float | None = None,
) -> Any:
    """As aten.segment_reduce: neighbors along an axis, cut into segments of given lengths."""
    # Offsets begin with the end of what lies before the first segment.
    ends = lengths.cumsum(-1) if lengths is not None else offsets
    if ends is None:
        return NotImplemented
    axis, count, size = axis % data.dim(), ends.shape[-1], data.shape[axis]
    if reduce not in NEUTRAL or not isinstance(count, int) or not isinstance(size, int):
        return NotImplemented
    # The number of a segment is how many segments end before the entry or at it.
    numbers = (ends.unsqueeze(-1) <= torch.arange(size, device=data.device)).sum(-2)
    index = numbers.view(*numbers.shape, *[1] * (data.dim() - axis - 1)).expand(data.shape)
    name, neutral = NEUTRAL[reduce]
    # A segment without entries keeps what it starts from; in a mean that is divided by its entries alone.
    start = torch.full_like(data.narrow(axis, 0, 1), neutral if initial is None else initial)
    start = start.expand(*data.shape[:axis], count, *data.shape[axis + 1 :])
    if reduce != "mean":
        found = scatter_reduce(start, axis, index, data, name, include_self=initial is not None)
    else:
        counts = torch.zeros_like(start).scatter_add(axis, index, torch.ones_like(data))
        found = start.scatter_add(axis, index, data) / (counts if initial is None else counts.clamp(min=1))
    return found if lengths is not None or found is NotImplemented else found.narrow(axis, 1, count - 1)


# By the name of a segment's reduction: that of a scatter's, and the value of an empty segment.
NEUTRAL = {
    "sum": ("sum", 0.0),
    "mean": ("mean", 0.0),
    "max": ("amax", -float("inf")),
    "min": ("amin", float("inf")),
}
