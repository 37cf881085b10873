"""Average pooling and interpolation: fixed linear combinations of neighboring entries."""

from functools import partial

import torch

from maxaffine._capture.call import Call
from maxaffine._capture.registry import overloads, rule
from maxaffine._capture.rules.arithmetic import spread
from maxaffine._graph import Operator, Sign, Transposable

POOLS = """
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d
"""
MEANS = """
    upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    upsample_linear1d upsample_bilinear2d upsample_trilinear3d
"""
LANCZOS = "_upsample_lanczos2d_aa" if hasattr(torch.ops.aten, "_upsample_lanczos2d_aa") else ""  # from torch 2.12 on
SIGNED = f"upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa {LANCZOS}"


def _both(names: str) -> str:
    """Each interpolation has two overloads: one takes sizes, the other sizes or factors."""
    return " ".join(f"{name} {name}.vec" for name in names.split())


@rule(*overloads(POOLS + _both(MEANS)))
def average(call: Call) -> Operator:
    """Weighted means with non-negative weights, unless the divisor that is given is negative."""
    if call.kind.startswith("adaptive") and set(call["output_size"]) == {1}:
        whole = tuple(range(-len(call["output_size"]), 0))
        return Transposable(call.affine(homogeneous=True, sign=Sign.NONNEGATIVE), partial(spread, axes=whole))
    negative = (call.arguments.get("divisor_override") or 1) < 0
    return call.affine(homogeneous=True, sign=Sign.NONPOSITIVE if negative else Sign.NONNEGATIVE)


@rule(*overloads(_both(SIGNED)))
def resample(call: Call) -> Operator:
    """Linear resampling with weights of either sign."""
    return call.affine(homogeneous=True)


@rule(*overloads("grid_sampler grid_sampler_2d grid_sampler_3d"))
def grid_sample(call: Call) -> Operator:
    """Linear in the image for a fixed grid."""
    if call.depends("grid"):
        call.refuse(
            "its grid depends on the input, and sampling is not piecewise affine in the grid",
            "use a grid that is a parameter or a constant",
        )
    return call.affine(homogeneous=True)


@rule(*overloads("affine_grid_generator"), sizes=True)
def affine_grid(call: Call) -> Operator:
    """Linear in theta."""
    return call.affine(homogeneous=True)
