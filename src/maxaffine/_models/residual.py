"""Residual networks in the style made for small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .shapes import image_shape


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a skip, relu(f(x) + skip(x)); the skip is 1 x 1 where the shapes differ."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(),
            nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or fan_in != fan_out:
            self.skip = nn.Sequential(nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False), nn.BatchNorm2d(fan_out))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, fan_in, H, W) to (N, fan_out, ceil(H / stride), ceil(W / stride))."""
        return self.relu(self.body(x) + self.skip(x))


def resnet(
    input_shape: Sequence[int], classes: int, width: int = 16, blocks: Sequence[int] = (2, 2, 2)
) -> nn.Sequential:
    """Residual network for small images: 3 x 3 stem, stages of `BasicBlock`, global average, one linear layer.

    Each stage after the first halves the sides and doubles the channels. The defaults make the 14-layer net.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of logits C.
        width: Channels of the stem and the first stage.
        blocks: Number of blocks of each stage.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    >>> import torch
    >>> resnet((1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])

    Source: K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016, figure 2, section 3.3
    (option B) and section 4.2.
    """
    channels, _, _ = image_shape(input_shape)
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    fan_in = width
    for stage, count in enumerate(blocks):
        fan_out = width * 2**stage
        first = BasicBlock(fan_in, fan_out, stride=1 if stage == 0 else 2)
        layers.append(nn.Sequential(first, *(BasicBlock(fan_out, fan_out, stride=1) for _ in range(count - 1))))
        fan_in = fan_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes))


def resnet18(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """ResNet-18 with the stem for small images: width 64, four stages of two blocks, 11.2 million parameters.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of logits C.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    >>> sum(p.numel() for p in resnet18((3, 32, 32), 10).parameters())
    11173962
    """
    return resnet(input_shape, classes, width=64, blocks=(2, 2, 2, 2))
