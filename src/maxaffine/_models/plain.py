"""Networks without skip connections: fully connected, and convolutional."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from .shapes import image_shape


def mlp(input_shape: Sequence[int], classes: int, widths: Sequence[int] = (512, 512)) -> nn.Sequential:
    """Fully connected layers with ReLU between them; any input shape.

    Args:
        input_shape: Shape of one input, without the batch.
        classes: Number of logits C.
        widths: Units of each hidden layer.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    >>> mlp((1, 8, 8), 10, widths=(16,))
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=64, out_features=16, bias=True)
      (2): ReLU()
      (3): Linear(in_features=16, out_features=10, bias=True)
    )
    """
    sizes = [math.prod(input_shape), *widths]
    hidden = [(nn.Linear(fan_in, fan_out), nn.ReLU()) for fan_in, fan_out in zip(sizes, sizes[1:], strict=False)]
    return nn.Sequential(nn.Flatten(), *(layer for pair in hidden for layer in pair), nn.Linear(sizes[-1], classes))


def cnn(
    input_shape: Sequence[int], classes: int, channels: Sequence[int] = (16, 32), hidden: int = 128
) -> nn.Sequential:
    """Blocks of 3 x 3 convolution, batch-norm, ReLU and 2 x 2 max-pooling, then two fully connected layers.

    Args:
        input_shape: (channels, height, width) of one image, each side at least 2 ** number of blocks.
        classes: Number of logits C.
        channels: Output channels of each block.
        hidden: Units of the hidden fully connected layer.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    >>> import torch
    >>> cnn((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    fan_in, height, width = image_shape(input_shape, at_least=2 ** len(channels))
    blocks: list[nn.Module] = []
    for fan_out in channels:
        blocks += [nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)]
        fan_in, height, width = fan_out, height // 2, width // 2
    features = fan_in * height * width
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
