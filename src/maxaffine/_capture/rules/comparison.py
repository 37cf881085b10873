"""Comparisons of dependent values: constant within a region, with a code of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from maxaffine._capture.batch import along, pointwise
from maxaffine._capture.call import Call
from maxaffine._capture.registry import rule
from maxaffine._graph import Comparison, Operator, Sign

aten = torch.ops.aten


@rule(
    *(
        getattr(getattr(aten, name), kind)
        for name in ("gt", "ge", "lt", "le", "eq", "ne")
        for kind in ("Tensor", "Scalar")
    ),
    aten.signbit.default,
    batch=pointwise,
)
def compare(call: Call) -> Operator:
    """True or false, entry by entry."""
    return Comparison(call.affine())


@rule(aten.sign.default, batch=pointwise)
def sign(call: Call) -> Operator:
    """-1, 0 or 1: three pieces, one of them a single point."""
    return Comparison(call.affine(), pieces=3)


@rule(aten.isnan.default, aten.isinf.default, batch=pointwise)
def infinite(call: Call) -> Operator:
    """Whether an entry is NaN or infinite: never, at finite inputs."""
    return Comparison(call.affine())


@rule(aten.argmax.default, aten.argmin.default, batch=along("dim"))
def argmax(call: Call) -> Operator:
    """The place of the winner along an axis."""
    dim = call["dim"]
    sample = call["self"].sample
    return Comparison(call.affine(), pieces=sample.numel() if dim is None else sample.shape[dim])


@rule(aten.bucketize.Tensor, batch=pointwise)
def bucketize(call: Call) -> Operator:
    """The number of boundaries below an entry."""
    if not isinstance(call["boundaries"], Tensor):
        call.refuse("its boundaries depend on the input", "use boundaries that are a buffer")
    return Comparison(call.affine(), pieces=len(call["boundaries"]) + 1)


@rule(aten.where.self, batch=pointwise)
def where(call: Call) -> Operator:
    """One of two values by a condition that is constant within a region."""
    return call.affine(homogeneous=len(call.active) == 2, sign=Sign.NONNEGATIVE)


@rule(
    aten.logical_and.default,
    aten.logical_or.default,
    aten.logical_not.default,
    aten.logical_xor.default,
    aten.bitwise_and.Tensor,
    aten.bitwise_or.Tensor,
    aten.bitwise_not.default,
    aten.bitwise_xor.Tensor,
    batch=pointwise,
)
def logic(call: Call) -> Operator:
    """Logic on comparisons; a float here would mean its being zero or not."""
    call.refuse("it reads a float as true or false", "compare explicitly, e.g. x != 0")


@rule(aten.any.dim, aten.any.dims, batch=along("dim"))
def logic_along(call: Call) -> Operator:
    """Any of several comparisons."""
    return logic(call)
