"""A small ConvNeXt: depthwise convolutions, layer norm over the channels, GELU and layer scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .shapes import image_shape

STEM = 2  # side of the stem's patches: 4 in the paper, whose images are larger
SCALE = 1e-1  # of each block at first: 1e-6 in the paper, whose trainings are longer


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize.

        Args:
            input: (N, C, H, W).

        Returns:
            (N, C, H, W).
        """
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """x + scale * f(x), f a 7 x 7 depthwise convolution, layer norm, and two 1 x 1 convolutions with GELU between.

    Args:
        width: Channels in and out.

    Source: Z. Liu et al., A ConvNet for the 2020s, CVPR 2022, figure 4; the layer scale in its appendix A.1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            ChannelNorm(width),
            nn.Conv2d(width, 4 * width, 1),
            nn.GELU(),
            nn.Conv2d(4 * width, width, 1),
        )
        self.scale = nn.Parameter(torch.full((width, 1, 1), SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: (N, width, H, W).

        Returns:
            (N, width, H, W).
        """
        return x + self.scale * self.body(x)


def convnext(
    input_shape: Sequence[int], classes: int, widths: Sequence[int] = (32, 64), blocks: Sequence[int] = (2, 2)
) -> nn.Sequential:
    """ConvNeXt for small images: a stem of 2 x 2 patches, stages of `ConvNeXtBlock`, global average, one linear layer.

    Each stage after the first halves the sides. It is smooth, not piecewise affine: capture it with
    ``smooth="frozen"`` or ``smooth="tangent"``.

    Args:
        input_shape: (channels, height, width) of one image, each side at least 2 ** number of stages.
        classes: Number of logits C.
        widths: Channels of each stage.
        blocks: Number of blocks of each stage.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    >>> convnext((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])

    Source: Z. Liu et al., A ConvNet for the 2020s, CVPR 2022, section 2 and appendix A.1.
    """
    fan_in, _, _ = image_shape(input_shape, at_least=STEM ** len(widths))
    layers: list[nn.Module] = []
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        halving = nn.Conv2d(fan_in, width, STEM, stride=STEM)
        layers += [halving, ChannelNorm(width)] if stage == 0 else [ChannelNorm(fan_in), halving]
        layers += [ConvNeXtBlock(width) for _ in range(count)]
        fan_in = width
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(fan_in)]
    return nn.Sequential(*layers, *pooled, nn.Linear(fan_in, classes))
