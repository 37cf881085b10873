"""Reading and writing entries at given places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maxaffine.capture.batch import matched, probed
from maxaffine.capture.call import Call, Ref
from maxaffine.capture.registry import rule
from maxaffine.graph import BatchAxis, Operator, Sign

aten = torch.ops.aten


def _constant_index(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    """Indices that are constants, so that the marks of the probe can be followed."""
    integers = [ref for ref in call.refs if not ref.affine and not ref.size and not ref.sample.is_floating_point()]
    if integers:
        call.refuse(
            "it indexes by a value computed from the input, and which samples meet cannot be proved",
            "use torch.gather along an axis other than the batch",
        )
    return probed(call, outputs)


@rule(
    aten.index.Tensor,
    aten.index_select.default,
    aten.index_put.default,
    batch=_constant_index,
)
def index(call: Call) -> Operator:
    """Entries read or written at constant places."""
    return call.affine(homogeneous=call.joint, sign=Sign.NONNEGATIVE)


def _along_axis(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    place = call["index"]
    return matched(call, outputs) if isinstance(place, Ref) else probed(call, outputs)


@rule(aten.gather.default, batch=_along_axis)
def gather(call: Call) -> Operator:
    """Entries read along an axis."""
    return call.affine(homogeneous=True, sign=Sign.NONNEGATIVE)


@rule(aten.scatter.src, aten.scatter.value, aten.scatter_add.default, batch=_along_axis)
def scatter(call: Call) -> Operator:
    """Entries written along an axis."""
    return call.affine(sign=Sign.NONNEGATIVE)


def _rows(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    return call["indices"].value.batch


@rule(aten.embedding.default, batch=_rows)
def embedding(call: Call) -> Operator:
    """A table read at integer places: constant in every float input."""
    return call.affine()
