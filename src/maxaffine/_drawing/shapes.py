"""Which inputs are pictures, lines or bars, and what is shown of their channels."""

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
    """How a figure with axes draws an input of a shape; a volume, which has no plain picture, is refused."""
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
    # Few and long: the rows of a small picture are many, and about as long as there are rows.
    return len(shape) == 2 and shape[0] <= MOST_LINES and shape[1] >= 8 * shape[0]


def shown(template: np.ndarray) -> np.ndarray:
    """What is shown of a template: of (C, H, W) the sum over the channels, anything else as it is."""
    # The sum is what the output gains where all channels of a pixel grow alike: the response to a gray change.
    return template.sum(0) if template.ndim == 3 else template
