"""Rules for convolution, normalization, pooling and resampling."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.contracts.case import IMAGE, Contract, beside, each

aten = torch.ops.aten
STATISTICS = {"mean": (2,), "var": torch.tensor([0.6, 1.4]), "w": (2,), "b": (2,)}


def convolved(m: Any, x: Tensor) -> Tensor:
    """Strided and dilated, grouped, and transposed."""
    strided = F.conv2d(x, m.w, m.b, stride=2, padding=1, dilation=2)
    return beside(strided, F.conv2d(x, m.g, groups=2), F.conv_transpose2d(x, m.t, m.b, stride=2, output_padding=1))


def as_volume(x: Tensor) -> Tensor:
    """Images (N, 2, 5, 6) as volumes (N, 2, 1, 5, 6)."""
    return x.unflatten(1, (2, 1))


def pooled(m: Any, x: Tensor) -> Tensor:
    """Overlapping windows, partial windows, and windows of volumes."""
    images = F.max_pool2d(x, 2, stride=1, padding=1), F.max_pool2d(x, 2, 2, ceil_mode=True)
    return beside(*images, F.max_pool3d(as_volume(x), (1, 2, 3)))


def unpooled(m: Any, x: Tensor) -> Tensor:
    """The winners of max-pooling, put back: an entry twice where it wins two windows."""
    image, places = F.max_pool2d_with_indices(x, 2)
    volume, deep = F.max_pool3d_with_indices(as_volume(x), (1, 2, 2))
    overlapping, shared = F.max_pool2d_with_indices(x, 3, 1)
    back = F.max_unpool2d(image, places, 2, output_size=x.shape[2:])
    again = F.max_unpool2d(overlapping + overlapping.mean(3, keepdim=True), shared, 3, 1)
    return beside(back, again, F.max_unpool3d(volume, deep, (1, 2, 2), output_size=(1, 5, 6)))


def resized(x: Tensor, mode: str) -> list[Tensor]:
    """Interpolation to a scale, and to a size in the form of the operator that takes one."""
    axes = x.dim() - 2
    name = mode.replace("nearest-exact", "nearest_exact")
    operator = getattr(aten, f"{'_' * (mode == 'nearest-exact')}upsample_{name}{axes}d")
    corners = [] if "nearest" in mode else [False]
    return [F.interpolate(x, scale_factor=1.5, mode=mode), operator.default(x, [1, 7, 9][-axes:], *corners)]


def averaged(m: Any, x: Tensor) -> Tensor:
    """Every average, of images and of the same numbers as series and volumes."""
    series, volume = x.flatten(2), as_volume(x)
    pools = F.avg_pool1d(series, 3), F.avg_pool2d(x, 2), F.avg_pool3d(volume, (1, 2, 2))
    images = F.adaptive_avg_pool2d(x, (2, 4)), aten._adaptive_avg_pool2d.default(x, [3, 2])
    volumes = F.adaptive_avg_pool3d(volume, (1, 3, 2)), aten._adaptive_avg_pool3d.default(volume, [1, 2, 4])
    nearest = [resized(item, mode) for mode in ("nearest", "nearest-exact") for item in (series, x, volume)]
    smooth = resized(series, "linear"), resized(x, "bilinear"), resized(volume, "trilinear")
    return beside(*pools, F.adaptive_avg_pool1d(series, 7), *images, *volumes, *chain(*nearest, *smooth))


def resampled(m: Any, x: Tensor) -> Tensor:
    """Interpolation with weights of either sign, and with weights that widen as the image shrinks."""
    widened = [F.interpolate(x, (3, 4), mode=mode, antialias=True) for mode in ("bilinear", "bicubic")]
    direct = [getattr(aten, f"_upsample_{mode}2d_aa").default(x, [3, 4], False) for mode in ("bilinear", "bicubic")]
    return beside(*resized(x, "bicubic"), *widened, *direct)


def sampled(m: Any, x: Tensor) -> Tensor:
    """Images and volumes at constant places."""
    grid, deep = (item.expand(x.shape[0], *item.shape[1:]) for item in (m.grid, m.deep))
    flat = F.grid_sample(x, grid, align_corners=False), aten.grid_sampler_2d.default(x, grid, 1, 1, True)
    volume = as_volume(x)
    deeper = F.grid_sample(volume, deep, align_corners=False), aten.grid_sampler_3d.default(volume, deep, 0, 1, True)
    return beside(*flat, *deeper)


SPATIAL = (
    Contract(
        "convolution.convolution",
        convolved,
        (IMAGE,),
        {"w": (3, 2, 3, 3), "g": (2, 1, 2, 2), "t": (2, 3, 2, 2), "b": (3,)},
    ),
    Contract(
        "normalization.instance_norm",
        lambda m, x: F.instance_norm(x, m.mean, m.var, m.w, m.b, use_input_stats=False),
        (IMAGE,),
        STATISTICS,
    ),
    Contract("normalization.batch_norm", lambda m, x: F.batch_norm(x, m.mean, m.var, m.w, m.b), (IMAGE,), STATISTICS),
    Contract("pooling.max_pool", pooled, (IMAGE,)),
    Contract(
        "pooling.adaptive_max_pool",
        each(lambda x: F.adaptive_max_pool2d(x, (2, 4)), lambda x: F.adaptive_max_pool3d(as_volume(x), (1, 3, 2))),
        (IMAGE,),
    ),
    Contract("pooling.max_unpool", unpooled, (IMAGE,)),
    Contract("resampling.average", averaged, (IMAGE,)),
    Contract("resampling.resample", resampled, (IMAGE,)),
    Contract("resampling.grid_sample", sampled, (IMAGE,), {"grid": (1, 3, 2, 2), "deep": (1, 2, 1, 2, 3)}),
    Contract(
        "resampling.affine_grid",
        lambda m, x: F.affine_grid(x, [x.shape[0], 1, 3, 4], align_corners=False),
        ((2, 3),),
    ),
)
