"""Fully connected layers and convolutions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tests.operator_table.row import (
    IMAGE,
    ONE_SIZE,
    SERIES,
    SMALL,
    STEPS,
    VECTOR,
    VOLUME,
    function,
    layer,
    module,
    refused,
)
from tests.zoo.networks import Net

CONVOLUTIONS = (
    layer("Conv1d", SERIES, 2, 3, 3),
    layer("Conv1d", SERIES, 2, 4, 3, stride=2, padding=2, dilation=2, groups=2),
    layer("Conv1d", SERIES, 2, 3, 3, padding=1, padding_mode="circular"),
    layer("Conv2d", IMAGE, 2, 3, 3),
    layer("Conv2d", IMAGE, 2, 3, (2, 3), bias=False),
    layer("Conv2d", IMAGE, 2, 3, 3, stride=(2, 1), padding=(1, 0)),
    layer("Conv2d", IMAGE, 2, 3, 2, dilation=2, padding=1),
    layer("Conv2d", IMAGE, 2, 4, 3, groups=2),
    layer("Conv2d", IMAGE, 2, 3, 3, padding="same"),
    layer("Conv2d", IMAGE, 2, 3, 2, padding="same"),
    layer("Conv2d", IMAGE, 2, 3, 3, padding="valid"),
    layer("Conv2d", IMAGE, 2, 3, 3, padding=1, padding_mode="reflect"),
    layer("Conv2d", IMAGE, 2, 3, 3, padding=1, padding_mode="replicate"),
    layer("Conv2d", IMAGE, 2, 3, 3, padding="same", padding_mode="circular"),
    layer("Conv3d", VOLUME, 2, 3, 2),
    layer("Conv3d", VOLUME, 2, 2, 3, padding=1, groups=2, padding_mode="replicate"),
    layer("ConvTranspose1d", SERIES, 2, 3, 3, stride=2, output_padding=1),
    layer("ConvTranspose2d", SMALL, 2, 3, 3),
    layer("ConvTranspose2d", SMALL, 2, 4, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
    layer("ConvTranspose2d", SMALL, 2, 3, 2, bias=False),
    layer("ConvTranspose3d", VOLUME, 2, 2, 2, stride=2),
    layer("LazyConv1d", SERIES, 3, 3),
    layer("LazyConv2d", IMAGE, 3, 3),
    layer("LazyConv3d", VOLUME, 2, 2),
    layer("LazyConvTranspose1d", SERIES, 3, 3),
    layer("LazyConvTranspose2d", SMALL, 3, 3),
    layer("LazyConvTranspose3d", VOLUME, 2, 2),
)


def constant_factor(m: Any, x: Tensor) -> Tensor:
    """A bilinear form with one factor fixed."""
    return m.form(x, m.factor.expand(x.shape[0], -1))


LAYERS = (
    layer("Identity", VECTOR),
    layer("Linear", VECTOR, 6, 4),
    layer("Linear", STEPS, 4, 5, variant="4, 5, on every step of a sequence"),
    layer("Linear", VECTOR, 6, 4, bias=False),
    layer("LazyLinear", VECTOR, 4),
    module(
        "Bilinear",
        VECTOR,
        "6, 5, 3, one factor constant",
        lambda: Net(constant_factor, form=nn.Bilinear(6, 5, 3), factor=nn.Parameter(nn.init.normal_(Tensor(5)))),
    ),
    *refused(
        layer("Bilinear", (VECTOR, (5,)), 6, 5, 3),
        module("Bilinear", VECTOR, "6, 6, 3, both factors the input", lambda: Net(squared, form=nn.Bilinear(6, 6, 3))),
    ),
    *CONVOLUTIONS,
)


def squared(m: Any, x: Tensor) -> Tensor:
    """A quadratic form."""
    return m.form(x, x)


FUNCTIONS = (
    function("linear", VECTOR, lambda m, x: F.linear(x, m.w, m.b), "constant weight", {"w": (4, 6), "b": (4,)}),
    function("linear", VECTOR, lambda m, x: F.linear(m.c, x), "the input as weight", {"c": (5, 6)}, output_dims=(1,)),
    *refused(function("linear", (VECTOR, VECTOR), lambda m, x, y: F.linear(x, y), "both factors inputs")),
    function(
        "bilinear",
        VECTOR,
        lambda m, x: F.bilinear(x, m.c.expand(x.shape[0], 5), m.w),
        "one factor constant",
        {"c": (5,), "w": (3, 6, 5)},
    ),
    *refused(function("bilinear", (VECTOR, (5,)), lambda m, x, y: F.bilinear(x, y, m.w), "", {"w": (3, 6, 5)})),
    function("conv1d", SERIES, lambda m, x: F.conv1d(x, m.w, m.b), "constant weight", {"w": (3, 2, 3), "b": (3,)}),
    function(
        "conv1d", (2, 3), lambda m, x: F.conv1d(m.c, x), "the input as weight", {"c": (1, 2, 9)}, output_dims=(1,)
    ),
    *refused(
        function(
            "conv_tbc",
            STEPS,
            lambda m, x: F.conv_tbc(x.contiguous(), m.w, m.b),
            "constant weight",
            {"w": (2, 4, 3), "b": (3,)},
            batch_dim=1,
            output_dims=(1,),
        ),
        though_affine=ONE_SIZE,
    ),
    function("conv2d", IMAGE, lambda m, x: F.conv2d(x, m.w, stride=2), "constant weight", {"w": (3, 2, 3, 3)}),
    function("conv3d", VOLUME, lambda m, x: F.conv3d(x, m.w), "constant weight", {"w": (3, 2, 2, 2, 2)}),
    function("conv_transpose1d", SERIES, lambda m, x: F.conv_transpose1d(x, m.w), "constant weight", {"w": (2, 3, 3)}),
    function(
        "conv_transpose2d",
        SMALL,
        lambda m, x: F.conv_transpose2d(x, m.w, stride=2),
        "constant weight",
        {"w": (2, 3, 3, 3)},
    ),
    function(
        "conv_transpose3d", VOLUME, lambda m, x: F.conv_transpose3d(x, m.w), "constant weight", {"w": (2, 2, 2, 2, 2)}
    ),
)
