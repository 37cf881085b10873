"""Batch-norm in evaluation mode, which is affine; every other normalization is refused."""

import torch
from torch import Tensor

from maxaffine._capture.batch import leading
from maxaffine._capture.call import Call
from maxaffine._capture.registry import overloads, rule
from maxaffine._graph import ChannelAffine, Operator


@rule(*overloads("instance_norm"), batch=leading)
def instance_norm(call: Call) -> Operator:
    """Scale and shift per channel, where it tracks running statistics and uses them."""
    if call["use_input_stats"]:
        call.refuse(
            "it divides by statistics of the input itself",
            "use InstanceNorm(track_running_stats=True) in evaluation mode, or batch-norm",
        )
    return call.affine()


@rule(*overloads("_native_batch_norm_legit_no_training"), batch=leading)
def batch_norm(call: Call) -> Operator:
    """Scale and shift per channel by the running statistics."""
    mean, variance, weight, bias = (call[name] for name in ("running_mean", "running_var", "weight", "bias"))
    if not all(item is None or isinstance(item, Tensor) for item in (mean, variance, weight, bias)):
        call.refuse("its statistics depend on the input", "use running statistics: model.eval()")
    # weight (x - mean) / sqrt(variance + eps) + bias, multiplied out.
    scale = torch.rsqrt(variance + call["eps"])
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    dtype = call["input"].sample.dtype
    return ChannelAffine(call.affine(kind="batch_norm"), scale.to(dtype), shift.to(dtype))
