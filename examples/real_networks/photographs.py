"""Photographs that scikit-image and scikit-learn bring along, as inputs of the published networks."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

from examples.real_networks.published import package

# Left, top and side of a square.
FACE = (172, 62, 120)


def photograph(name: str) -> np.ndarray:
    """One bundled photograph.

    Args:
        name: ``"cat"``, ``"coffee"``, ``"motorcycle"``, ``"astronaut"`` or ``"palace"``.

    Returns:
        (H, W, 3) bytes.
    """
    if name == "palace":
        return load_sample_image("china.jpg")
    data = package("skimage.data")
    if name == "motorcycle":
        return data.stereo_motorcycle()[0]
    return {"cat": data.chelsea, "coffee": data.coffee, "astronaut": data.astronaut}[name]()


def central_square(picture: np.ndarray, size: int) -> np.ndarray:
    """The largest central square of a picture, resized.

    Args:
        picture: (H, W, 3) bytes.
        size: Side of the result in pixels.

    Returns:
        (size, size, 3) bytes.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    return square(picture, ((width - side) // 2, (height - side) // 2, side), size)


def square(picture: np.ndarray, place: tuple[int, int, int], size: int) -> np.ndarray:
    """A square cut out of a picture, resized.

    Args:
        picture: (H, W, 3) bytes.
        place: Left, top and side of the square.
        size: Side of the result in pixels.

    Returns:
        (size, size, 3) bytes.
    """
    left, top, side = place
    cut = Image.fromarray(picture).crop((left, top, left + side, top + side))
    return np.array(cut.resize((size, size), Image.Resampling.BICUBIC))


def network_input(picture: np.ndarray, middle: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """A picture as these networks take it: (bytes - middle) / 128.

    Args:
        picture: (H, W, 3) bytes.
        middle: 127 for EfficientNet-Lite, 127.5 for MTCNN.
        dtype: The input's dtype.

    Returns:
        (1, 3, H, W).
    """
    return (torch.from_numpy(picture).permute(2, 0, 1)[None].to(dtype) - middle) / 128
