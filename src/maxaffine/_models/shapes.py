"""The check that every image network makes on the shape of its input."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BadInput


def image_shape(input_shape: Sequence[int], at_least: int = 1) -> tuple[int, int, int]:
    """Check that a shape is that of an image.

    Args:
        input_shape: Shape of one input, without the batch.
        at_least: Smallest allowed height and width.

    Returns:
        (channels, height, width).

    Raises:
        BadInput: It is not, or the image is too small.

    >>> image_shape([3, 32, 32])
    (3, 32, 32)
    """
    if len(input_shape) != 3 or min(input_shape) < 1 or min(input_shape[1:]) < at_least:
        raise BadInput(
            f"input_shape: {tuple(input_shape)} is no (channels, height, width) with sides of at least {at_least}; "
            "choose another network (mlp takes any shape) or larger images"
        )
    channels, height, width = input_shape
    return channels, height, width
