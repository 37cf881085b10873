"""Padding, changes of shape and resampling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.operator_table.row import IMAGE, ONE_SIZE, SERIES, STEPS, VECTOR, VOLUME, function, layer, module, refused

LAYERS = (
    layer("ZeroPad1d", SERIES, (1, 2)),
    layer("ZeroPad2d", IMAGE, (1, 0, -1, 2)),
    layer("ZeroPad3d", VOLUME, 1),
    layer("ConstantPad1d", SERIES, 2, 0.5),
    layer("ConstantPad2d", IMAGE, (1, 2, 0, 1), -1.5),
    layer("ConstantPad3d", VOLUME, (1, 0, 0, 1, 1, 0), 2.0),
    layer("ReflectionPad1d", SERIES, (3, 1)),
    layer("ReflectionPad2d", IMAGE, (1, 2, 0, 3)),
    layer("ReflectionPad3d", VOLUME, 1),
    layer("ReplicationPad1d", SERIES, (3, 1)),
    layer("ReplicationPad2d", IMAGE, (1, 2, 0, 3)),
    layer("ReplicationPad3d", VOLUME, 1),
    layer("CircularPad1d", SERIES, (3, 1)),
    layer("CircularPad2d", IMAGE, (1, 2, 0, 3)),
    layer("CircularPad3d", VOLUME, (1, 0, 2, 1, 0, 1)),
    layer("Flatten", IMAGE),
    layer("Flatten", IMAGE, 2),
    module("Flatten", IMAGE, "0, unflattened again", lambda: nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 60)))),
    layer("Unflatten", VECTOR, 1, (2, 3)),
    layer("Fold", (8, 6), (3, 4), 2),
    layer("Fold", (8, 10), (4, 5), 2, dilation=2, padding=1, stride=(2, 1)),
    layer("Unfold", IMAGE, 2),
    layer("Unfold", IMAGE, (2, 3), dilation=(1, 2), padding=1, stride=2),
    layer("ChannelShuffle", (4, 3, 2), 2),
    layer("PixelShuffle", (8, 3, 2), 2),
    layer("PixelUnshuffle", (2, 4, 6), 2),
    layer("Upsample", SERIES, scale_factor=2),
    layer("Upsample", SERIES, size=7, mode="linear"),
    layer("Upsample", IMAGE, size=(8, 3)),
    layer("Upsample", IMAGE, scale_factor=1.7, mode="bilinear"),
    layer("Upsample", IMAGE, scale_factor=2, mode="bilinear", align_corners=True),
    layer("Upsample", IMAGE, scale_factor=(2, 1.5), mode="bicubic", recompute_scale_factor=True),
    layer("Upsample", VOLUME, scale_factor=2, mode="trilinear"),
    layer("UpsamplingNearest2d", IMAGE, scale_factor=2),
    layer("UpsamplingBilinear2d", IMAGE, size=(7, 9)),
)

GRID = {"grid": lambda: 2.4 * torch.rand(1, 4, 3, 2) - 1.2}
VOLUME_GRID = {"grid": lambda: 2.4 * torch.rand(1, 2, 3, 2, 3) - 1.2}


def _sampled(shape: tuple[int, ...], parts: dict, **options: Any) -> Any:
    """Sampling of the input at constant places."""

    def body(m: Any, x: Tensor) -> Tensor:
        return F.grid_sample(x, m.grid.expand(x.shape[0], *[-1] * (m.grid.dim() - 1)), **options)

    text = ", ".join([f"{len(shape) - 1}-D constant grid", *(f"{key}={value!r}" for key, value in options.items())])
    return function("grid_sample", shape, body, text, parts)


FUNCTIONS = (
    function("pad", IMAGE, pad=(1, 2)),
    function("pad", IMAGE, pad=(1, 2, 0, 1, 1, 0), value=3.0),
    function("pad", IMAGE, pad=(-1, 2, 0, -1)),
    function("pad", SERIES, pad=(2, 1), mode="reflect"),
    function("pad", IMAGE, pad=(2, 1, 1, 0), mode="replicate"),
    function("pad", VOLUME, pad=(2, 1, 1, 0, 1, 1), mode="circular"),
    function("pad", STEPS, pad=(1, 1), mode="reflect"),
    *refused(function("pad", VECTOR, pad=(0, 0, 1, 0))),
    function("fold", (8, 6), output_size=(3, 4), kernel_size=2),
    function("unfold", IMAGE, kernel_size=3, padding=1, stride=2),
    function("channel_shuffle", (4, 3, 2), lambda m, x: F.channel_shuffle(x, 2), "groups=2"),
    *refused(
        function("native_channel_shuffle", (4, 3, 2), lambda m, x: F.native_channel_shuffle(x, 2), "groups=2"),
        though_affine=ONE_SIZE,
    ),
    function("pixel_shuffle", (8, 3, 2), upscale_factor=2),
    function("pixel_unshuffle", (2, 4, 6), downscale_factor=2),
    function("interpolate", SERIES, scale_factor=2.5, mode="nearest"),
    function("interpolate", SERIES, size=5, mode="nearest-exact"),
    function("interpolate", SERIES, scale_factor=0.5, mode="linear"),
    function("interpolate", SERIES, size=4, mode="area"),
    function("interpolate", IMAGE, size=(3, 8), mode="nearest"),
    function("interpolate", IMAGE, scale_factor=1.6, mode="nearest-exact"),
    function("interpolate", IMAGE, size=(3, 8), mode="bilinear"),
    function("interpolate", IMAGE, size=(3, 8), mode="bilinear", align_corners=True),
    function("interpolate", IMAGE, scale_factor=0.6, mode="bilinear", antialias=True),
    function("interpolate", IMAGE, size=(7, 4), mode="bicubic"),
    function("interpolate", IMAGE, size=(7, 4), mode="bicubic", align_corners=True),
    function("interpolate", IMAGE, size=(3, 3), mode="bicubic", antialias=True),
    function("interpolate", IMAGE, size=(3, 3), mode="lanczos", antialias=True),
    function("interpolate", IMAGE, size=(2, 4), mode="area"),
    function("interpolate", VOLUME, size=(3, 5, 2), mode="nearest"),
    function("interpolate", VOLUME, scale_factor=1.5, mode="nearest-exact"),
    function("interpolate", VOLUME, scale_factor=(2, 1, 0.5), mode="trilinear"),
    function("interpolate", VOLUME, size=3, mode="area"),
    function("upsample", IMAGE, scale_factor=2, mode="bilinear"),
    function("upsample_nearest", IMAGE, scale_factor=2),
    function("upsample_bilinear", IMAGE, size=(7, 9)),
    _sampled(IMAGE, GRID, align_corners=False),
    _sampled(IMAGE, GRID, mode="nearest", padding_mode="border", align_corners=False),
    _sampled(IMAGE, GRID, mode="bicubic", padding_mode="reflection", align_corners=True),
    _sampled(VOLUME, VOLUME_GRID, align_corners=False),
    *refused(
        function(
            "grid_sample",
            (IMAGE, (4, 3, 2)),
            lambda m, x, g: F.grid_sample(x, g, align_corners=False),
            "the grid depends on the input",
        ),
    ),
    function(
        "affine_grid",
        (2, 3),
        lambda m, x: F.affine_grid(x, [x.shape[0], 1, 3, 4], align_corners=False),
        "align_corners=False",
    ),
    function(
        "affine_grid",
        (3, 4),
        lambda m, x: F.affine_grid(x, [x.shape[0], 1, 2, 3, 2], align_corners=True),
        "3-D, align_corners=True",
    ),
)
