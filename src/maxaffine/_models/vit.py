"""A small vision transformer: patches, attention, layer norm and GELU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import BadInput
from .shapes import image_shape


class Patches(nn.Module):
    """The patches of an image as tokens: one linear map of each patch, and a learned vector for its position.

    Args:
        channels: Channels of the image.
        patch: Side of a patch.
        width: Numbers in one token.
        count: Number of patches.
    """

    def __init__(self, channels: int, patch: int, width: int, count: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x: Tensor) -> Tensor:
        """Cut and embed.

        Args:
            x: (N, channels, H, W).

        Returns:
            (N, count, width).
        """
        return self.embed(x).flatten(2).transpose(1, 2) + self.position


class MeanToken(nn.Module):
    """The mean over the tokens, from (N, T, width) to (N, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """Average.

        Args:
            x: (N, T, width).

        Returns:
            (N, width).
        """
        return x.mean(1)


def vit(
    input_shape: Sequence[int], classes: int, patch: int = 4, width: int = 64, blocks: int = 4, heads: int = 4
) -> nn.Sequential:
    """Vision transformer over the patches of a small image, whose mean token gives the logits.

    It is smooth, not piecewise affine: capture it with ``smooth="frozen"`` or ``smooth="tangent"``.

    Args:
        input_shape: (channels, height, width) of one image, sides multiples of `patch`.
        classes: Number of logits C.
        patch: Side of a patch.
        width: Numbers in one token, a multiple of `heads`.
        blocks: Number of blocks: attention, then two linear layers with GELU between them, each after a layer norm.
        heads: Heads of each attention.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    Raises:
        BadInput: The image does not divide into such patches, or a token into such heads.

    >>> vit((1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])

    Source: A. Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021, section 3.1, with the mean token of
    X. Zhai et al., Scaling Vision Transformers, CVPR 2022, section 3.1, in place of a class token.
    """
    channels, height, breadth = image_shape(input_shape, at_least=patch)
    if height % patch or breadth % patch:
        raise BadInput(f"patch: {patch} does not divide {height} x {breadth} pixels; choose a divisor of both sides")
    if width % heads:
        raise BadInput(f"heads: {heads} does not divide a token of width {width}; choose a divisor")
    tokens = Patches(channels, patch, width, (height // patch) * (breadth // patch))
    body = [
        nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(blocks)
    ]
    return nn.Sequential(tokens, *body, nn.LayerNorm(width), MeanToken(), nn.Linear(width, classes))
