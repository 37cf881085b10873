"""Convolutional architectures that people use, written by hand and shrunk to run in milliseconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.networks import Net


def conv_bn_relu(
    inputs: int, outputs: int, kernel: int = 3, relu: type[nn.Module] = nn.ReLU, **options: Any
) -> nn.Sequential:
    """Convolution that keeps the size at stride 1, batch-norm, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), relu())


class BasicBlock(nn.Module):
    """conv-bn-relu-conv-bn, plus a projected skip where the shape changes, then relu in place."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


def resnet() -> nn.Sequential:
    """A stem with max-pooling, three basic blocks, global average pooling."""
    stem = nn.Sequential(conv_bn_relu(3, 4), nn.MaxPool2d(3, 2, 1))
    blocks = nn.Sequential(BasicBlock(4, 4, 1), BasicBlock(4, 6, 2), BasicBlock(6, 6, 1))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    return nn.Sequential(OrderedDict(stem=stem, layers=blocks, head=head))


class DenseNet(nn.Module):
    """Pre-activated dense layers over a list of features, a transition, dropout in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.dense = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 3, 3, padding=1), nn.Dropout2d(0.3))
            for c in (4, 7)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 5, 1), nn.AvgPool2d(2))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.dense:
            features.append(layer(torch.cat(features, 1)))
        x = F.relu(self.transition(torch.cat(features, 1)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Inception(nn.Module):
    """Four branches of different depth and kernel, concatenated, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList(self._cell(c) for c in (3, 8))
        self.head = nn.Linear(8, 3)

    @staticmethod
    def _cell(inputs: int) -> nn.ModuleDict:
        wide = nn.Sequential(conv_bn_relu(inputs, 3, 1), nn.Conv2d(3, 2, (1, 5), padding=(0, 2)), nn.ReLU())
        return nn.ModuleDict(
            {
                "one": conv_bn_relu(inputs, 2, 1),
                "three": nn.Sequential(conv_bn_relu(inputs, 2, 1), conv_bn_relu(2, 2, 3)),
                "wide": wide,
                "pool": nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn_relu(inputs, 2, 1)),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            x = torch.cat([branch(x) for branch in cell.values()], 1)  # pyright: ignore[reportCallIssue]
        return self.head(x.mean((2, 3)))


class UNet(nn.Module):
    """Down by max-pooling, up by a transposed convolution, a skip by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = conv_bn_relu(1, 3), conv_bn_relu(3, 4)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.out = nn.Sequential(conv_bn_relu(6, 3, relu=nn.LeakyReLU), nn.Conv2d(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        return self.out(torch.cat([skip, self.up(self.bottom(F.max_pool2d(skip, 2)))], 1))


class MultiResolution(nn.Module):
    """Two resolutions side by side that exchange by strided convolution and bilinear upsampling, as in HRNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 3)
        self.to_low = conv_bn_relu(3, 4, stride=2)
        self.high, self.low = conv_bn_relu(3, 3), conv_bn_relu(4, 4)
        self.high_to_low = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
        self.low_to_high = nn.Sequential(nn.Conv2d(4, 3, 1, bias=False), nn.BatchNorm2d(3))
        self.head = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.stem(x)
        low = self.to_low(high)
        high, low = self.high(high), self.low(low)
        lifted = F.interpolate(self.low_to_high(low), size=high.shape[-2:], mode="bilinear", align_corners=False)
        high, low = F.relu(high + lifted), F.relu(low + self.high_to_low(high))
        low = F.interpolate(low, scale_factor=2, mode="nearest")
        return self.head(torch.cat([high, low], 1))


class RepVGGBlock(nn.Module):
    """Sum of a 3x3, a 1x1 and an identity branch, each with batch-norm, then relu."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.three = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.one = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.identity = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.three(x) + self.one(x) + self.identity(x))


class InvertedResidual(nn.Module):
    """Expand, depthwise, linear bottleneck, with a skip where shapes agree, as in MobileNetV2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = 2 * inputs
        self.skip = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            conv_bn_relu(inputs, hidden, 1, nn.ReLU6),
            conv_bn_relu(hidden, hidden, 3, nn.ReLU6, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.skip else self.body(x)


class ShuffleUnit(nn.Module):
    """Split the channels, transform one half, concatenate, shuffle by view and transpose, as in ShuffleNetV2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv_bn_relu(channels // 2, channels // 2, 3), conv_bn_relu(channels // 2, channels // 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, used = x.chunk(2, dim=1)
        x = torch.cat((kept, self.branch(used)), dim=1)
        batch, channels, height, width = x.shape
        return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def vgg() -> nn.Sequential:
    """Convolutions with biases, max-pooling, two fully connected layers with dropout."""
    features = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(True),
        nn.MaxPool2d(2),
    )
    return nn.Sequential(features, nn.Flatten(), nn.Linear(24, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 3))


def mobilenet_v2() -> nn.Sequential:
    """Three inverted residuals between a strided stem and a global mean."""
    blocks = [InvertedResidual(4, 4, 1), InvertedResidual(4, 6, 2), InvertedResidual(6, 6, 1)]
    head = [conv_bn_relu(6, 8, 1, nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 3)]
    return nn.Sequential(conv_bn_relu(3, 4, 3, nn.ReLU6, stride=2), *blocks, *head)


def maxout_convnet() -> Net:
    """Each unit is the largest of two convolutions."""
    parts = {"a": nn.Conv2d(1, 6, 3), "b": nn.Conv2d(3, 4, 3), "c": nn.Linear(2, 3)}
    return Net(
        lambda m, x: m.c(m.b(m.a(x).unflatten(1, (3, 2)).amax(2)).unflatten(1, (2, 2)).amax(2).mean((2, 3))), **parts
    )


def autoencoder() -> nn.Sequential:
    """Strided convolutions to a bottleneck, transposed ones back, clamped to the range of images."""
    encoder = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(27, 4))
    decoder = nn.Sequential(nn.Linear(4, 27), nn.ReLU(), nn.Unflatten(1, (3, 3, 3)), nn.ConvTranspose2d(3, 1, 2, 2))
    return nn.Sequential(OrderedDict(encoder=encoder, decoder=decoder, range=nn.Hardtanh(0, 1)))


def generator() -> nn.Sequential:
    """Transposed convolutions with batch-norm from a latent vector to an image, as in DCGAN before its tanh."""
    first = [nn.ConvTranspose2d(5, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(True)]
    second = [nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(True)]
    return nn.Sequential(*first, *second, nn.ConvTranspose2d(4, 1, 4, 2, 1, bias=False))


class Detector(nn.Module):
    """Fully convolutional with PReLU and two heads, as the first network of MTCNN."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.MaxPool2d(2, 2, ceil_mode=True), nn.Conv2d(4, 5, 2), nn.PReLU(5)
        )
        self.score, self.box = nn.Conv2d(5, 2, 1), nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.box(x), self.score(x)


def volume_regression() -> nn.Sequential:
    """A 3-D network from a density field to one number."""
    body = [
        nn.Conv3d(1, 3, 3, padding=1),
        nn.LeakyReLU(0.03),
        nn.MaxPool3d(2),
        nn.Conv3d(3, 4, (2, 2, 1)),
        nn.LeakyReLU(0.03),
    ]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(4, 5), nn.LeakyReLU(0.03), nn.Linear(5, 1))
