"""Which inputs are pictures, and what is shown of their channels."""

from __future__ import annotations

import numpy as np


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether inputs of a shape are shown as pictures: (C, H, W) or (H, W); all others are shown as bars."""
    return len(shape) in (2, 3)


def shown(template: np.ndarray) -> np.ndarray:
    """What is shown of a template: of (C, H, W) the sum over the channels, which is its response to a grey change.

    Args:
        template: A row of A, shaped as the input.

    Returns:
        (H, W) for images; anything else as it is.

    Example:
        >>> shown(np.ones((3, 2, 2))).tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    return template.sum(0) if template.ndim == 3 else template
