"""The images of the study: changed ones, and ones from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from maxaffine.data import load

# By kind of change: its unit, and the strengths.
CHANGES: dict[str, tuple[str, tuple[float, ...]]] = {
    "translation": ("pixels to the right", (1, 2, 3, 4)),
    "noise": ("standard deviation", (0.05, 0.1, 0.2, 0.3)),
    "blur": ("standard deviation in pixels", (0.5, 1, 1.5, 2)),
    "rotation": ("degrees", (5, 10, 20, 30)),
}


def changed(images: Tensor, kind: str, strength: float) -> Tensor:
    """Images after a change."""
    return _CHANGE[kind](images, strength)


def digits(form: str) -> Tensor:
    """scikit-learn's handwritten digits as images of 28 x 28."""
    data = load("digits")
    images = torch.cat([data.train.inputs, data.test.inputs])
    if form == "padded":
        return F.pad(images, (10, 10, 10, 10))
    return F.interpolate(images, (28, 28), mode="bilinear", align_corners=False)


def _translated(images: Tensor, pixels: float) -> Tensor:
    return F.pad(images, (int(pixels), 0, 0, 0))[..., : images.shape[-1]]


def _noisy(images: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + deviation * noise).clamp(0, 1)


def _blurred(images: Tensor, deviation: float) -> Tensor:
    reach = math.ceil(3 * deviation)
    bell = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    bell = bell / bell.sum()
    rows = F.conv2d(images, bell.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(rows, bell.view(1, 1, -1, 1), padding=(reach, 0))


def _rotated(images: Tensor, degrees: float) -> Tensor:
    angle = math.radians(degrees)
    matrix = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


_CHANGE: dict[str, Callable[[Tensor, float], Tensor]] = {
    "translation": _translated,
    "noise": _noisy,
    "blur": _blurred,
    "rotation": _rotated,
}
