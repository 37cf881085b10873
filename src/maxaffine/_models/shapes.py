"""The check that every image network makes on the shape of its input."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BadInput


def image_shape(input_shape: Sequence[int], at_least: int = 1) -> tuple[int, int, int]:
    """The (channels, height, width) of an image, checked."""
    if len(input_shape) != 3 or min(input_shape) < 1 or min(input_shape[1:]) < at_least:
        raise BadInput(
            f"input_shape: {tuple(input_shape)} is not (channels, height, width) with sides of at least {at_least}; "
            "choose another network (mlp takes any shape) or larger images"
        )
    channels, height, width = input_shape
    return channels, height, width
