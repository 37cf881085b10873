"""Square patches of the images of a data set, as rows."""

from __future__ import annotations

import torch
from torch import Tensor

from maxaffine.data import Split


def drawn(split: Split, count: int, side: int, seed: int) -> Tensor:
    """Patches at random places of random images.

    Args:
        split: Images (N, 1, H, W).
        count: How many.
        side: Pixels of a side.
        seed: Of the draw.

    Returns:
        (count, side^2), row by row of the patch.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = split.inputs.shape[2:]
    image = torch.randint(len(split), (count,), generator=generator)
    top = torch.randint(height - side + 1, (count,), generator=generator)
    left = torch.randint(width - side + 1, (count,), generator=generator)
    across = torch.arange(side)
    rows, columns = top[:, None] + across, left[:, None] + across
    return split.inputs[image[:, None, None], 0, rows[:, :, None], columns[:, None, :]].flatten(1)


def cut(image: Tensor, side: int) -> Tensor:
    """An image as patches beside each other.

    Args:
        image: (H, W), both divisible by the side.
        side: Pixels of a side.

    Returns:
        (patches, side^2), row by row of the image.
    """
    return image.unfold(0, side, side).unfold(1, side, side).reshape(-1, side * side)


def joined(patches: Tensor, height: int, width: int) -> Tensor:
    """The image of patches that `cut` made.

    Args:
        patches: (patches, side^2).
        height: Of the image.
        width: Of the image.

    Returns:
        (height, width).
    """
    side = round(patches.shape[1] ** 0.5)
    return patches.reshape(height // side, width // side, side, side).transpose(1, 2).reshape(height, width)


def quarters(side: int) -> Tensor:
    """The features of the four quarters of a patch.

    Args:
        side: Pixels of a side, even.

    Returns:
        (4, side^2 / 4) int64.
    """
    return cut(torch.arange(side * side).view(side, side), side // 2)
