"""Convolutions, plain and transposed, grouped and dilated."""

from collections.abc import Sequence

from torch import Tensor

from maxaffine._capture.batch import leading, probed
from maxaffine._capture.call import Call
from maxaffine._capture.registry import overloads, rule
from maxaffine._capture.rules.arithmetic import one_factor
from maxaffine._capture.rules.pooling import per_axis
from maxaffine._graph import BatchAxis, Convolution, Operator


def _samples(call: Call, outputs: Sequence[Tensor]) -> BatchAxis:
    # A weight that is computed, as by a network of its own, may hold samples too.
    return leading(call, outputs) if isinstance(call["weight"], Tensor) else probed(call, outputs)


@rule(*overloads("convolution"), batch=_samples)
def convolution(call: Call) -> Operator:
    """C x + b_C."""
    name = one_factor(call, "input", "weight")
    weight, bias = call["weight"], call["bias"]
    if name != "input" or not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
        return call.affine()
    geometry = {
        name: per_axis(call[name], weight.dim() - 2) for name in ("stride", "padding", "dilation", "output_padding")
    }
    kind = "conv_transpose" if call["transposed"] else "convolution"
    return Convolution(weight, bias, transposed=call["transposed"], groups=call["groups"], kind=kind, **geometry)
