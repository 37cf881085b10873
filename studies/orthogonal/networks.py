"""The networks of the study, each with and without batch-norm; all end in a linear layer."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from maxaffine.models import build


def network(name: str, input_shape: tuple[int, ...], classes: int, batch_norm: bool, seed: int) -> nn.Module:
    """Build a network with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "mlp":
            model = build("mlp", input_shape, classes, widths=(256, 256))
            return _normalized(cast(nn.Sequential, model)) if batch_norm else model
        if name == "cnn-small":
            model = build("cnn", input_shape, classes, channels=(8, 16), hidden=128)
        elif name == "cnn-large":
            model = build("cnn", input_shape, classes, channels=(32, 64, 128), hidden=256)
        elif name == "cnn-script":
            model = _script(input_shape[0], classes)
        elif name == "resnet":
            model = build("resnet", input_shape, classes, width=16, blocks=(1, 1, 1))
        else:
            raise ValueError(f"there is no network {name!r}")
        return model if batch_norm else without_batch_norm(model)


def _script(channels: int, classes: int) -> nn.Sequential:
    """The small CNN of the authors' script with a quarter of its channels, padded, as the digits are small."""
    layers: list[nn.Module] = []
    for width, kernel in ((8, 3), (16, 3), (32, 1)):
        pool = nn.MaxPool2d(2) if kernel > 1 else nn.AdaptiveAvgPool2d(1)
        convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(), pool]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, classes, bias=False))


class Bias(nn.Module):
    """Adds one number per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Add it to (N, channels, H, W)."""
        return x + self.bias


class Gain(nn.Module):
    """Multiplies by one number that starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.gain


def without_batch_norm(model: nn.Module) -> nn.Module:
    """Put biases in the place of batch-norms, and a gain after each residual branch; in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, Bias(child.num_features))
        if isinstance(body := getattr(module, "body", None), nn.Sequential):
            body.append(Gain())
    return model


def _normalized(model: nn.Sequential) -> nn.Sequential:
    """Batch-norm between each hidden linear layer and its ReLU."""
    layers: list[nn.Module] = []
    for layer, following in zip(model, [*model][1:] + [None], strict=True):
        layers.append(layer)
        if isinstance(layer, nn.Linear) and isinstance(following, nn.ReLU):
            layers.append(nn.BatchNorm1d(layer.out_features))
    return nn.Sequential(*layers)
