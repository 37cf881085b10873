"""Which inputs are pictures, lines or bars, and what is shown of their channels."""

from __future__ import annotations

from enum import Enum

import numpy as np

from maxaffine.errors import BadInput

MOST_BARS = 64
MOST_LINES = 4


class Kind(Enum):
    """How an input is drawn."""

    PICTURE = "picture"
    LINES = "lines"
    BARS = "bars"


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether inputs of a shape are shown as pictures: (C, H, W), or (H, W) unless that is a few long signals."""
    return len(shape) == 3 or (len(shape) == 2 and not _is_signal(shape))


def kind_of(shape: tuple[int, ...]) -> Kind:
    """How a figure with axes draws an input of a shape.

    Args:
        shape: Shape of one input. (C, H, W) and (H, W) are pictures; (D,) is a row of bars, or a line where D > 64;
            (C, T) with at most 4 channels, each at least 8 times as long as there are channels, is a line per channel.

    Returns:
        The kind.

    Raises:
        BadInput: For a shape that has no plain picture, such as a volume.

    >>> kind_of((1, 500)), kind_of((13,)), kind_of((28, 28))
    (<Kind.LINES: 'lines'>, <Kind.BARS: 'bars'>, <Kind.PICTURE: 'picture'>)
    """
    if len(shape) == 1:
        return Kind.BARS if shape[0] <= MOST_BARS else Kind.LINES
    if _is_signal(shape):
        return Kind.LINES
    if is_image(shape):
        return Kind.PICTURE
    raise BadInput(
        f"inputs: one of shape {shape} has no plain picture; take the numbers instead (`slopes`), and draw a slice"
    )


def _is_signal(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[0] <= MOST_LINES and shape[1] >= 8 * shape[0]


def shown(template: np.ndarray) -> np.ndarray:
    """What is shown of a template: of (C, H, W) the sum over the channels, which is its response to a gray change.

    Args:
        template: A row of A, shaped as the input.

    Returns:
        (H, W) for images; anything else as it is.

    Example:
        >>> shown(np.ones((3, 2, 2))).tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    return template.sum(0) if template.ndim == 3 else template
