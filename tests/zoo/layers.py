"""Cases about convolutions, paddings, poolings, resampling, and the convolutional architectures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.zoo import convnets
from tests.zoo.case import COLOR, IMAGE, SERIES, VOLUME, Case, Shapes
from tests.zoo.networks import Net


def stack(name: str, *layers: Callable[[], nn.Module], shapes: Shapes = IMAGE, **properties: Any) -> Case:
    """Layers with a relu behind each but the last."""

    def factory() -> nn.Module:
        parts = [part for layer in layers for part in (layer(), nn.ReLU())]
        return nn.Sequential(*parts[:-1])

    return Case(name, factory, shapes, **properties)


def pooled(name: str, pool: Callable[[], nn.Module], rank: int = 2, **properties: Any) -> Case:
    """Convolution, relu, a pooling, and a strided convolution."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    first = 2 if rank == 1 else 1
    shapes = (SERIES, IMAGE, VOLUME)[rank - 1]
    return Case(
        name,
        lambda: nn.Sequential(conv(first, 3, 3, padding=1), nn.ReLU(), pool(), conv(3, 2, 2, 2, padding=1)),
        shapes,
        **properties,
    )


def resampled(name: str, rank: int = 2, **options: Any) -> Case:
    """Convolution, relu, interpolation, and a strided convolution."""
    return pooled(f"interpolate_{name}", lambda: Net(lambda m, x: F.interpolate(x, **options)), rank)


def max_unpool(m: Any, x: Tensor) -> Tensor:
    """Pooled values go back to where the winners were."""
    values, winners = F.max_pool2d(m.conv(x), (2, 2), return_indices=True)
    return m.out(F.max_unpool2d(values, winners, (2, 2)))


def fold_unfold(m: Any, x: Tensor) -> Tensor:
    """Patches, a linear map of each, and back to an image."""
    patches = F.unfold(x, 4, stride=2)
    return F.fold(F.relu(m.a(patches.transpose(1, 2))).transpose(1, 2), (6, 6), 4, stride=2)


def constant_grid(m: Any, x: Tensor) -> Tensor:
    """Bilinear sampling at fixed places."""
    return F.grid_sample(F.relu(m.conv(x)), m.grid.expand(x.shape[0], -1, -1, -1), align_corners=False)


CONVOLUTIONS = (
    stack("conv1d", lambda: nn.Conv1d(2, 4, 3, stride=2), lambda: nn.Conv1d(4, 3, 2, dilation=2), shapes=SERIES),
    stack("conv2d", lambda: nn.Conv2d(1, 4, 3, stride=2, padding=1), lambda: nn.Conv2d(4, 2, (1, 3), bias=False)),
    stack("conv3d", lambda: nn.Conv3d(1, 3, 3, padding=1), lambda: nn.Conv3d(3, 2, (1, 3, 2)), shapes=VOLUME),
    stack(
        "conv_grouped",
        lambda: nn.Conv2d(3, 6, 3, groups=3),
        lambda: nn.Conv2d(6, 4, 3, dilation=2, groups=2),
        shapes=COLOR,
    ),
    stack("conv_same", lambda: nn.Conv2d(1, 3, 3, padding="same"), lambda: nn.Conv2d(3, 2, 3, padding="valid")),
    stack("conv_reflect", lambda: nn.Conv2d(1, 3, 3, padding=1, padding_mode="reflect"), lambda: nn.Conv2d(3, 2, 1)),
    stack(
        "conv_replicate", lambda: nn.Conv2d(1, 3, 3, padding=2, padding_mode="replicate"), lambda: nn.Conv2d(3, 2, 1)
    ),
    stack(
        "conv_circular", lambda: nn.Conv2d(1, 3, 3, padding=(1, 2), padding_mode="circular"), lambda: nn.Conv2d(3, 2, 1)
    ),
    stack("conv_weight_norm", lambda: parametrizations.weight_norm(nn.Conv2d(1, 3, 3)), lambda: nn.Conv2d(3, 2, 1)),
    stack(
        "deconv1d",
        lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, output_padding=1),
        lambda: nn.Conv1d(3, 2, 3),
        shapes=SERIES,
    ),
    stack(
        "deconv2d",
        lambda: nn.ConvTranspose2d(1, 4, 3, stride=2, padding=1, output_padding=1),
        lambda: nn.ConvTranspose2d(4, 2, 2, groups=2, dilation=2, bias=False),
        shapes=((1, 3, 4),),
    ),
    stack(
        "deconv3d",
        lambda: nn.ConvTranspose3d(1, 3, 2, stride=(1, 2, 1)),
        lambda: nn.Conv3d(3, 5, 1),
        shapes=((1, 2, 3, 2),),
    ),
    stack("zero_pad", lambda: nn.ZeroPad2d((1, 2, 0, 1)), lambda: nn.Conv2d(1, 2, 3)),
    stack("constant_pad", lambda: nn.ConstantPad2d((1, -1, 2, 0), 1.5), lambda: nn.Conv2d(1, 2, 3)),
    stack("reflection_pad", lambda: nn.ReflectionPad2d((1, 2, 3, 0)), lambda: nn.Conv2d(1, 2, 3)),
    stack("replication_pad_3d", lambda: nn.ReplicationPad3d(1), lambda: nn.Conv3d(1, 2, 3), shapes=VOLUME),
    stack("circular_pad_1d", lambda: nn.CircularPad1d((2, 1)), lambda: nn.Conv1d(2, 3, 3), shapes=SERIES),
    stack("batch_norm_2d", lambda: nn.Conv2d(1, 3, 3), lambda: nn.BatchNorm2d(3), lambda: nn.Conv2d(3, 2, 1)),
    stack("batch_norm_3d", lambda: nn.BatchNorm3d(1, affine=False), lambda: nn.Conv3d(1, 2, 2), shapes=VOLUME),
    stack(
        "instance_norm_tracked",
        lambda: nn.InstanceNorm2d(3, track_running_stats=True),
        lambda: nn.Conv2d(3, 2, 1),
        shapes=COLOR,
        optional=True,
    ),
)

POOLINGS = (
    pooled("avg_pool1d", lambda: nn.AvgPool1d(3, 2, 1), 1),
    pooled("avg_pool2d", lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    pooled("avg_pool2d_divisor", lambda: nn.AvgPool2d((2, 3), divisor_override=5)),
    pooled("avg_pool3d", lambda: nn.AvgPool3d(2), 3),
    pooled("adaptive_avg_pool1d", lambda: nn.AdaptiveAvgPool1d(4), 1),
    pooled("adaptive_avg_pool2d", lambda: nn.AdaptiveAvgPool2d((3, None))),
    pooled("adaptive_avg_pool3d", lambda: nn.AdaptiveAvgPool3d((2, 1, 3)), 3),
    pooled("max_pool1d", lambda: nn.MaxPool1d(3, 2, 1, dilation=2), 1, max_pool=True),
    pooled("max_pool2d", lambda: nn.MaxPool2d(2), max_pool=True),
    pooled("max_pool2d_overlapping", lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), max_pool=True),
    pooled("max_pool2d_dilated", lambda: nn.MaxPool2d((2, 3), 1, dilation=2), max_pool=True),
    pooled("max_pool3d", lambda: nn.MaxPool3d(2, 1), 3, max_pool=True),
    pooled("adaptive_max_pool1d", lambda: nn.AdaptiveMaxPool1d(4), 1, max_pool=True),
    pooled("adaptive_max_pool2d", lambda: nn.AdaptiveMaxPool2d((3, 2)), max_pool=True),
    pooled("adaptive_max_pool3d", lambda: nn.AdaptiveMaxPool3d(2), 3, max_pool=True),
    pooled("global_max", lambda: Net(lambda m, x: x.amax((2, 3), keepdim=True))),
    stack("max_pool_of_input", lambda: nn.MaxPool2d(2), lambda: nn.Conv2d(1, 2, 3), max_pool=True),
    Case(
        "convex_max_pool", lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)), IMAGE, convex=True, max_pool=True
    ),
    Case(
        "max_unpool",
        lambda: Net(max_unpool, conv=nn.Conv2d(1, 2, 3, padding=1), out=nn.Conv2d(2, 2, 3)),
        IMAGE,
        max_pool=True,
        continuous=False,
        optional=True,
    ),
)

RESAMPLINGS = (
    resampled("nearest", scale_factor=2, mode="nearest"),
    resampled("nearest_exact", size=(5, 11), mode="nearest-exact"),
    resampled("linear", rank=1, size=13, mode="linear", align_corners=True),
    resampled("bilinear", scale_factor=1.5, mode="bilinear", align_corners=False),
    resampled("bilinear_corners", size=(5, 12), mode="bilinear", align_corners=True),
    resampled("bilinear_antialias", size=(4, 5), mode="bilinear", antialias=True),
    resampled("bicubic", scale_factor=2, mode="bicubic", align_corners=False),
    resampled("area", size=(3, 5), mode="area"),
    resampled("trilinear", rank=3, scale_factor=2, mode="trilinear", align_corners=False),
    stack("pixel_shuffle", lambda: nn.Conv2d(1, 8, 3), lambda: nn.PixelShuffle(2), lambda: nn.Conv2d(2, 2, 3)),
    stack("pixel_unshuffle", lambda: nn.PixelUnshuffle(2), lambda: nn.Conv2d(4, 2, 3)),
    stack(
        "channel_shuffle",
        lambda: nn.Conv2d(1, 6, 3),
        lambda: nn.ChannelShuffle(2),
        lambda: nn.Conv2d(6, 4, 1, groups=2),
    ),
    Case("fold_unfold", lambda: Net(fold_unfold, a=nn.Linear(16, 16)), IMAGE, convex=True),
    Case(
        "constant_grid",
        lambda: Net(constant_grid, conv=nn.Conv2d(1, 3, 3), grid=torch.rand(1, 4, 5, 2) * 2.2 - 1.1),
        IMAGE,
        convex=True,
    ),
)

ARCHITECTURES = (
    Case("vgg", convnets.vgg, COLOR, max_pool=True),
    Case("resnet", convnets.resnet, COLOR, max_pool=True),
    Case("densenet", convnets.DenseNet, COLOR),
    Case("inception", convnets.Inception, COLOR, max_pool=True),
    Case("unet", convnets.UNet, IMAGE, max_pool=True),
    Case("multi_resolution", convnets.MultiResolution, COLOR),
    Case(
        "repvgg",
        lambda: nn.Sequential(convnets.conv_bn_relu(3, 4, stride=2), convnets.RepVGGBlock(4), convnets.RepVGGBlock(4)),
        COLOR,
    ),
    Case("mobilenet_v2", convnets.mobilenet_v2, COLOR),
    Case(
        "shufflenet",
        lambda: nn.Sequential(convnets.conv_bn_relu(3, 4, stride=2), convnets.ShuffleUnit(4), convnets.ShuffleUnit(4)),
        COLOR,
    ),
    Case("maxout_convnet", convnets.maxout_convnet, IMAGE),
    Case("autoencoder", convnets.autoencoder, IMAGE),
    Case("generator", convnets.generator, ((5, 1, 1),)),
    Case("detector", convnets.Detector, COLOR, outputs=2, max_pool=True),
    Case("volume_regression", convnets.volume_regression, VOLUME, max_pool=True),
)

LAYERS = CONVOLUTIONS + POOLINGS + RESAMPLINGS + ARCHITECTURES
