"""Pooling and its inverses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.operator_table.row import IMAGE, SERIES, VOLUME, function, integers, layer, module, refused
from tests.zoo.networks import Net

CUBE = (2, 5, 5, 5)

AVERAGE = (
    layer("AvgPool1d", SERIES, 3),
    layer("AvgPool1d", SERIES, 3, stride=2, padding=1, count_include_pad=False),
    layer("AvgPool2d", IMAGE, 2),
    layer("AvgPool2d", IMAGE, 3, stride=2, padding=1, ceil_mode=True),
    layer("AvgPool2d", IMAGE, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    layer("AvgPool2d", IMAGE, (2, 3), divisor_override=5),
    layer("AvgPool3d", VOLUME, 2, stride=1),
    layer("AvgPool3d", VOLUME, 2, padding=1, count_include_pad=False),
    layer("AdaptiveAvgPool1d", SERIES, 4),
    layer("AdaptiveAvgPool1d", SERIES, 1),
    layer("AdaptiveAvgPool2d", IMAGE, (2, 4)),
    layer("AdaptiveAvgPool2d", IMAGE, (None, 1)),
    layer("AdaptiveAvgPool2d", IMAGE, 7),
    layer("AdaptiveAvgPool3d", VOLUME, (3, 2, 3)),
)

MAXIMUM = (
    layer("MaxPool1d", SERIES, 3),
    layer("MaxPool1d", SERIES, 3, stride=1, padding=1, dilation=2),
    layer("MaxPool1d", SERIES, 2, ceil_mode=True, return_indices=True),
    layer("MaxPool2d", IMAGE, 2),
    layer("MaxPool2d", IMAGE, 3, stride=2, padding=1),
    layer("MaxPool2d", IMAGE, (2, 3), stride=(1, 2), ceil_mode=True),
    layer("MaxPool2d", IMAGE, 2, stride=1, dilation=(2, 3), padding=(1, 0)),
    layer("MaxPool2d", IMAGE, 2, return_indices=True),
    layer("MaxPool3d", VOLUME, 2, stride=1),
    layer("MaxPool3d", VOLUME, (2, 1, 3), padding=(1, 0, 1), return_indices=True),
    layer("AdaptiveMaxPool1d", SERIES, 4),
    layer("AdaptiveMaxPool1d", SERIES, 3, return_indices=True),
    layer("AdaptiveMaxPool2d", IMAGE, (2, 4)),
    layer("AdaptiveMaxPool2d", IMAGE, (3, None), return_indices=True),
    layer("AdaptiveMaxPool3d", VOLUME, (2, 2, 3)),
    layer("AdaptiveMaxPool3d", VOLUME, 1, return_indices=True),
)

POWER = (
    layer("LPPool1d", SERIES, 1, 3, stride=2),
    layer("LPPool2d", IMAGE, 1, 2),
    layer("LPPool2d", IMAGE, float("inf"), 2, stride=1),
    layer("LPPool2d", IMAGE, -float("inf"), 2),
    layer("LPPool3d", VOLUME, 1.0, 2, ceil_mode=True),
    *refused(layer("LPPool1d", SERIES, 2, 3), layer("LPPool2d", IMAGE, 3, 2), layer("LPPool3d", VOLUME, 2, 2)),
)


def pool_and_back(m: Any, x: Tensor) -> Tensor:
    """Pooling, an affine operator between, and unpooling by the same places."""
    pooled, places = m.pool(x)
    return m.back(2 * pooled - 1, places, output_size=x.shape[2:])


def unpool(m: Any, x: Tensor, places: Tensor) -> Tensor:
    """Unpooling by places that are inputs: one place per window, so that no two collide."""
    windows = torch.arange(x.shape[-1]) * 2
    return m.back(x, places + windows)


def _unpooling(axes: int, shape: tuple[int, ...]) -> Any:
    def factory() -> nn.Module:
        return Net(
            pool_and_back,
            pool=getattr(nn, f"MaxPool{axes}d")(2, return_indices=True),
            back=getattr(nn, f"MaxUnpool{axes}d")(2),
        )

    return module(f"MaxUnpool{axes}d", shape, "2, after MaxPool", factory)


UNPOOLING = (
    _unpooling(1, SERIES),
    _unpooling(2, IMAGE),
    _unpooling(3, VOLUME),
    module(
        "MaxUnpool1d",
        ((2, 4), integers(2, 2, 4)),
        "2, places given as input",
        lambda: Net(unpool, back=nn.MaxUnpool1d(2)),
    ),
)


def samples(axes: int) -> Any:
    """Constant sampling positions that make fractional pooling repeatable."""
    return lambda: torch.rand(1, 2, axes)


def fractional(m: Any, x: Tensor) -> Tensor:
    """Fractional pooling at constant positions."""
    return F.fractional_max_pool2d(x, 2, output_size=3, _random_samples=m.at.expand(x.shape[0], -1, -1))


def fractional_volume(m: Any, x: Tensor) -> Tensor:
    """Fractional pooling of a volume at constant positions."""
    return F.fractional_max_pool3d(x, 2, output_size=(2, 2, 2), _random_samples=m.at.expand(x.shape[0], -1, -1))


LAYERS = (
    *AVERAGE,
    *MAXIMUM,
    *POWER,
    *UNPOOLING,
    *refused(
        layer("FractionalMaxPool2d", IMAGE, 2, output_size=3),
        layer("FractionalMaxPool2d", (2, 7, 8), 2, output_ratio=0.5, return_indices=True),
        layer("FractionalMaxPool3d", CUBE, 2, output_size=3),
    ),
)


def _both(name: str, shape: tuple[int, ...], *args: Any) -> tuple:
    """A max-pooling function without and with the places it returns."""

    def body(m: Any, x: Tensor) -> Any:
        return getattr(F, name)(x, *args)

    def places(m: Any, x: Tensor) -> Any:
        return getattr(F, f"{name}_with_indices")(x, *args)

    text = ", ".join(map(str, args))
    return function(name, shape, body, text), function(f"{name}_with_indices", shape, places, text)


FUNCTIONS = (
    function("avg_pool1d", SERIES, kernel_size=2, ceil_mode=True),
    function("avg_pool2d", IMAGE, kernel_size=3, padding=1),
    function("avg_pool3d", VOLUME, kernel_size=2),
    function("adaptive_avg_pool1d", SERIES, output_size=4),
    function("adaptive_avg_pool2d", IMAGE, output_size=3),
    function("adaptive_avg_pool3d", VOLUME, output_size=2),
    *_both("max_pool1d", SERIES, 3, 2, 1),
    *_both("max_pool2d", IMAGE, 2),
    *_both("max_pool3d", VOLUME, 2),
    *_both("adaptive_max_pool1d", SERIES, 4),
    *_both("adaptive_max_pool2d", IMAGE, (2, 5)),
    *_both("adaptive_max_pool3d", VOLUME, 2),
    function("lp_pool1d", SERIES, norm_type=1, kernel_size=2),
    function("lp_pool2d", IMAGE, norm_type=1, kernel_size=2, stride=1),
    function("lp_pool2d", IMAGE, norm_type=float("inf"), kernel_size=2),
    function("lp_pool3d", VOLUME, norm_type=1, kernel_size=2),
    *refused(
        function("lp_pool1d", SERIES, norm_type=2, kernel_size=2),
        function("lp_pool2d", IMAGE, norm_type=2, kernel_size=2),
        function("lp_pool3d", VOLUME, norm_type=2, kernel_size=2),
    ),
    function(
        "max_unpool1d", SERIES, lambda m, x: F.max_unpool1d(*F.max_pool1d_with_indices(x, 2), 2), "after max_pool1d"
    ),
    function(
        "max_unpool2d", IMAGE, lambda m, x: F.max_unpool2d(*F.max_pool2d_with_indices(x, 2), 2), "after max_pool2d"
    ),
    function(
        "max_unpool3d",
        (2, 4, 4, 4),
        lambda m, x: F.max_unpool3d(*F.max_pool3d_with_indices(x, 2), 2),
        "after max_pool3d",
    ),
    *refused(
        function("fractional_max_pool2d", IMAGE, kernel_size=2, output_size=3),
        function("fractional_max_pool2d_with_indices", IMAGE, kernel_size=2, output_size=3),
        function("fractional_max_pool3d", CUBE, kernel_size=2, output_size=3),
        function("fractional_max_pool3d_with_indices", CUBE, kernel_size=2, output_size=3),
    ),
    *refused(
        function("fractional_max_pool2d", IMAGE, fractional, "_random_samples constant", {"at": samples(2)}),
        function("fractional_max_pool3d", CUBE, fractional_volume, "_random_samples constant", {"at": samples(3)}),
        though_affine="fractional pooling is repeatable by a private argument only",
    ),
)
