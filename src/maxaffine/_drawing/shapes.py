"""Which inputs are pictures, stacks of slices, lines or bars, and what is shown of their channels."""

from enum import Enum

import numpy as np

from maxaffine.errors import BadInput

MOST_BARS = 64
MOST_LINES = 4
# Of a picture: gray, colors, and how opaque it is. More layers are slices, each a picture of its own.
MOST_CHANNELS = 4
MOST_SLICES = 9


class Kind(Enum):
    """How an input is drawn."""

    PICTURE = "picture"
    LINES = "lines"
    BARS = "bars"


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether inputs of a shape are pictures: (C, H, W), or (H, W) unless that is a few long signals."""
    return len(shape) == 3 or (len(shape) == 2 and not _is_signal(shape))


def is_stack(shape: tuple[int, ...]) -> bool:
    """Whether inputs of a shape are shown slice by slice: (C, D, H, W), or (D, H, W) of more than four slices."""
    return len(shape) == 4 or (len(shape) == 3 and shape[0] > MOST_CHANNELS)


def channels_of(shape: tuple[int, ...]) -> int:
    """How many channels inputs of a shape have, that are shown as one."""
    return shape[0] if len(shape) == 4 or (len(shape) == 3 and not is_stack(shape)) else 1


def kind_of(shape: tuple[int, ...]) -> Kind:
    """How a figure with axes draws an input of a shape; what has no plain picture is refused."""
    if len(shape) == 1:
        return Kind.BARS if shape[0] <= MOST_BARS else Kind.LINES
    if _is_signal(shape):
        return Kind.LINES
    if is_image(shape) or is_stack(shape):
        return Kind.PICTURE
    raise BadInput(
        f"inputs: one of shape {shape} has no plain picture; take the numbers instead (`slopes`), and draw a slice"
    )


def _is_signal(shape: tuple[int, ...]) -> bool:
    # Few and long: the rows of a small picture are many, and about as long as there are rows.
    return len(shape) == 2 and shape[0] <= MOST_LINES and shape[1] >= 8 * shape[0]


def shown(template: np.ndarray) -> np.ndarray:
    """What is shown of a template: of (C, H, W) and (C, D, H, W) the sum over channels, anything else as it is."""
    # The sum is what the output gains where all channels of a pixel grow alike: the response to a gray change.
    return template.sum(0) if template.ndim == 4 or (template.ndim == 3 and not is_stack(template.shape)) else template


def slice_places(shape: tuple[int, ...]) -> list[int]:
    """Which slices of a stack are shown: at most nine, evenly spaced, the middle one among them."""
    depth = shape[-3]
    count = min(depth, MOST_SLICES)
    return [(2 * place + 1) * depth // (2 * count) for place in range(count)]


def side_by_side(array: np.ndarray, gap: int = 0, times: int = 1) -> np.ndarray:
    """The slices of a stack as one picture, (H, W) or (C, H, W), enlarged, with zeros between them; others as is."""
    if not is_stack(array.shape):
        return array
    slices = array[..., slice_places(array.shape), :, :].repeat(times, -2).repeat(times, -1)
    *channels, count, height, width = slices.shape
    # About as wide as high.
    across = min(count, max(1, round((count * height / width) ** 0.5)))
    down = -(-count // across)
    joined = np.zeros((*channels, down * (height + gap) - gap, across * (width + gap) - gap), array.dtype)
    for place in range(count):
        top, left = place // across * (height + gap), place % across * (width + gap)
        joined[..., top : top + height, left : left + width] = slices[..., place, :, :]
    return joined
