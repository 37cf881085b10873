"""Rules for operators that read, order, write and move entries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.contracts.case import IMAGE, SERIES, STEPS, VECTOR, Contract, beside, each

aten = torch.ops.aten
PLACES = {"i": torch.tensor([4, 1])}


def indexed(m: Any, x: Tensor) -> Tensor:
    """Entries read at constant places along axis 1."""
    return beside(x[:, m.i], x.index_select(1, m.i))


def put(m: Any, x: Tensor) -> Tensor:
    """Entries written at constant places along axis 1, and added there, twice to one place."""
    twice = torch.tensor([3, 3])
    return beside(
        aten.index_put.default(x, [None, m.i], x[:, :2] + 1), aten.index_put.default(x, [None, twice], x[:, :2], True)
    )


def gathered(m: Any, x: Tensor) -> Tensor:
    """Entries read at constant places, and at places that the input chooses."""
    return beside(x.gather(1, m.i.expand(x.shape[0], -1)), x.gather(1, x.argmin(1, keepdim=True)))


def scattered(m: Any, x: Tensor) -> Tensor:
    """Entries written at constant places, and at places that the input chooses: one twice, from a part of a source."""
    fixed, chosen = m.i.expand(x.shape[0], -1), x.argmax(1, keepdim=True)
    constant = x.scatter(1, fixed, 2 * x[:, :2]), x.scatter_add(1, fixed, x[:, :2])
    shared = x.scatter(1, (x > 0).long(), 2 * x), x.scatter(1, chosen, x + 1)
    return beside(*constant, *shared, aten.scatter.value(x, 1, chosen, 5.0), x.scatter_add(1, chosen, x))


def looked_up(m: Any, x: Tensor) -> Tensor:
    """Rows of a constant table, and of one computed from the input, of which no gradient leaves any out."""
    return beside(x * F.embedding(x.argmax(1), m.table), F.embedding(m.i, x.t(), padding_idx=1).t())


def written_in_order(m: Any, x: Tensor) -> Tensor:
    """Entries of a source where a constant mask is set, the same mask for all samples."""
    some = torch.tensor([True, False, True, True, False, False])
    return beside(x.masked_scatter(some, 2 * x[:, :3]), x.masked_scatter(some.expand_as(x), x[:, 1:4] + 1))


INDEXING = (
    Contract("indexing.index", indexed, parts=PLACES),
    Contract("indexing.index_put", put, parts=PLACES),
    Contract("indexing.gather", gathered, parts=PLACES),
    Contract("indexing.scatter", scattered, parts=PLACES),
    Contract("indexing.masked_scatter", written_in_order),
    Contract("indexing.embedding", looked_up, parts=PLACES | {"table": (6, 6)}),
)


def larger(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """The larger and the smaller of two inputs, or of an input and a constant."""
    return beside(torch.maximum(x, y), torch.minimum(x, m.c), torch.fmax(y, m.c), torch.fmin(y, x))


SELECTION = (
    Contract("selection.maximum", larger, (VECTOR, VECTOR), {"c": VECTOR}),
    Contract(
        "selection.largest",
        each(lambda x: x.amax((1, 2))[:, None], lambda x: x.amax(1, keepdim=True), lambda x: x.max(2).values),
        (STEPS,),
    ),
    Contract(
        "selection.smallest",
        each(lambda x: x.amin((1, 2))[:, None], lambda x: x.min(1, keepdim=True).values),
        (STEPS,),
    ),
    Contract(
        "selection.ranked",
        each(
            lambda x: x.median(1).values,
            lambda x: x.nanmedian(2).values,
            lambda x: x.kthvalue(2, 1, keepdim=True).values,
        ),
        (STEPS,),
    ),
    Contract(
        "selection.ordered",
        each(
            lambda x: x.sort(1).values,
            lambda x: x.sort(stable=True, dim=2, descending=True).values,
            lambda x: x.topk(2, 1).values,
            lambda x: x.topk(3, 2, largest=False, sorted=False).values,
        ),
        (STEPS,),
    ),
    Contract("selection.running", each(lambda x: x.cummax(1).values, lambda x: x.cummin(2).values), (STEPS,)),
)


def reshaped(m: Any, x: Tensor) -> Tensor:
    """Other shapes of the same entries."""
    return beside(x.reshape(x.shape[0], 4, 3), x.unsqueeze(2).squeeze(2), x[:, :1, :1].squeeze((1, 2))[:, None])


def moved(x: Tensor) -> Tensor:
    """Axes permuted, entries picked, joined, repeated, mirrored and written, in (N, 3, 4)."""
    axes = x.permute(0, 2, 1), x.transpose(1, 2), x.flatten(1).t().t(), x.unsqueeze(1).expand(-1, 2, -1, -1)
    picked = x[:, 1:, ::2], x.select(1, 0), x.diagonal(0, 1, 2), x.unfold(2, 2, 1), *x.split([1, 2], 1), *x.unbind(1)
    joined = torch.stack([x, 2 * x], 1), x.repeat(1, 2, 1), x.flip(2), x.roll(1, 2), x.tril(), x.triu()
    return beside(*axes, *picked, *joined, x.diagonal_scatter(x[:, 0, :3], 0, 1, 2))


def rearranged(x: Tensor) -> Tensor:
    """Channels, windows and borders of images, and of the same numbers as series and volumes."""
    forms = (x.flatten(2), (1, 1)), (x, (1, 1, 2, 0)), (x.unflatten(1, (2, 1)), (1, 1, 2, 0, 0, 0))
    borders = [F.pad(item, pad, mode=mode) for item, pad in forms for mode in ("reflect", "replicate")]
    for item, pad in forms:
        axes = len(pad) // 2
        borders += [getattr(aten, f"{mode}_pad{axes}d").default(item, pad) for mode in ("reflection", "replication")]
    channels = F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2), F.pixel_unshuffle(x[:, :, :4], 2), F.channel_shuffle(x, 2)
    return beside(*channels, F.unfold(x, 2), F.fold(F.unfold(x, 2), (5, 6), 2), *borders)


def written(m: Any, x: Tensor) -> Tensor:
    """A part of a tensor, written in place and by a function."""
    whole = torch.zeros_like(x)
    whole[:, 1:3] = x[:, :2] * 2
    return beside(whole, x.slice_scatter(x[:, :2], 1, 3, 5))


def padded(m: Any, x: Tensor) -> Tensor:
    """Borders of a constant, and of the entries at the other end."""
    constant = F.pad(x, (1, 2), value=3.0), aten.constant_pad_nd.default(x, [2, 0], -1.0)
    return beside(*constant, F.pad(x, (1, 1), mode="circular"), aten._pad_circular.default(x, [1, 1]))


SHAPE = (
    Contract("shape.reshape", reshaped, (STEPS,)),
    Contract("shape.permute", each(lambda x: x.permute(0, 2, 1), lambda x: x.transpose(2, 1).flatten(1)), (STEPS,)),
    Contract("shape.move", each(lambda x: moved(x[:, 0, :3, :4]), rearranged), (IMAGE,)),
    Contract("shape.slice_scatter", written),
    Contract("shape.copy", lambda m, x: torch.zeros_like(x).copy_(x) + 1),
    Contract("shape.pad", padded, (SERIES,)),
    Contract("shape.convert", lambda m, x: x.to(torch.float64).to(x.dtype) + x * x.bool()),
)
