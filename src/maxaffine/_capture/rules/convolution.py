"""Convolutions, plain and transposed, grouped and dilated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maxaffine._capture.batch import leading, probed
from maxaffine._capture.call import Call
from maxaffine._capture.registry import rule
from maxaffine._capture.rules.arithmetic import one_factor
from maxaffine._graph import BatchAxis, Convolution, Operator

aten = torch.ops.aten


def _samples(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    return leading(call, outputs) if isinstance(call["weight"], Tensor) else probed(call, outputs)


@rule(aten.convolution.default, batch=_samples)
def convolution(call: Call) -> Operator:
    """C x + b_C."""
    name = one_factor(call, "input", "weight")
    weight, bias = call["weight"], call["bias"]
    if name != "input" or not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
        return call.affine()
    return Convolution(
        weight=weight,
        bias=bias,
        stride=_per_axis(call["stride"], weight),
        padding=_per_axis(call["padding"], weight),
        dilation=_per_axis(call["dilation"], weight),
        transposed=call["transposed"],
        output_padding=_per_axis(call["output_padding"], weight),
        groups=call["groups"],
        kind="conv_transpose" if call["transposed"] else "convolution",
    )


def _per_axis(values: Sequence[int], weight: Tensor) -> tuple[int, ...]:
    axes = weight.dim() - 2
    return tuple(values) * axes if len(values) == 1 else tuple(values)
