"""Average pooling and interpolation: fixed linear combinations of neighboring entries."""

from __future__ import annotations

import torch

from maxaffine._capture.call import Call
from maxaffine._capture.registry import rule
from maxaffine._graph import Operator, Sign

aten = torch.ops.aten

# From torch 2.12 on.
LANCZOS = (
    (aten._upsample_lanczos2d_aa.default, aten._upsample_lanczos2d_aa.vec)
    if hasattr(aten, "_upsample_lanczos2d_aa")
    else ()
)


@rule(
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default,
    aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d.default,
    aten.upsample_nearest1d.default,
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.default,
    aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact1d.default,
    aten._upsample_nearest_exact1d.vec,
    aten._upsample_nearest_exact2d.default,
    aten._upsample_nearest_exact2d.vec,
    aten._upsample_nearest_exact3d.default,
    aten._upsample_nearest_exact3d.vec,
    aten.upsample_linear1d.default,
    aten.upsample_linear1d.vec,
    aten.upsample_bilinear2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_trilinear3d.default,
    aten.upsample_trilinear3d.vec,
)
def average(call: Call) -> Operator:
    """Weighted means with non-negative weights, unless the divisor that is given is negative."""
    negative = (call.arguments.get("divisor_override") or 1) < 0
    return call.affine(homogeneous=True, sign=Sign.NONPOSITIVE if negative else Sign.NONNEGATIVE)


@rule(
    aten.upsample_bicubic2d.default,
    aten.upsample_bicubic2d.vec,
    aten._upsample_bilinear2d_aa.default,
    aten._upsample_bilinear2d_aa.vec,
    aten._upsample_bicubic2d_aa.default,
    aten._upsample_bicubic2d_aa.vec,
    *LANCZOS,
)
def resample(call: Call) -> Operator:
    """Linear resampling with weights of either sign."""
    return call.affine(homogeneous=True)


@rule(aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def grid_sample(call: Call) -> Operator:
    """Linear in the image for a fixed grid."""
    if call.depends("grid"):
        call.refuse(
            "its grid depends on the input, and sampling is not piecewise affine in the grid",
            "use a grid that is a parameter or a constant",
        )
    return call.affine(homogeneous=True)


@rule(aten.affine_grid_generator.default, sizes=True)
def affine_grid(call: Call) -> Operator:
    """Linear in theta."""
    return call.affine(homogeneous=True)
