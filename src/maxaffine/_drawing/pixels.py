"""Arrays as pixels: colors of an image, signed heat maps, bars; no text."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from maxaffine._drawing.shapes import is_image, is_stack, shown, side_by_side
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Diverging, symmetric about white, and told apart by readers with any common color blindness (ColorBrewer).
SIGNED = "RdBu_r"
NEGATIVE, POSITIVE, NEUTRAL = (33, 102, 172), (178, 24, 43), (122, 135, 148)
# A line between slices is a pixel of this many; the entries of smaller slices are enlarged.
THIN = 40
# Pixels of a panel of bars.
BARS_HEIGHT, BARS_WIDTH = 97, 160


def input_pixels(array: np.ndarray) -> np.ndarray:
    """An input as pixels: (H, W, 3) bytes of a picture, (height, width, 4) bytes of bars, a row for each channel."""
    if is_stack(array.shape):
        return _framed(array, _colors)
    return _colors(array) if is_image(array.shape) else _bars(array, float(np.abs(array).max()), NEUTRAL, NEUTRAL)


def template_pixels(array: np.ndarray, scale: float, cmap: str | Colormap | None = None) -> np.ndarray:
    """A template as pixels likewise, in colors (or bars) from ``-scale`` to ``scale``; channels are summed."""
    if is_stack(array.shape):
        return _framed(array, lambda picture: signed_pixels(shown(picture), scale, cmap))
    return (
        signed_pixels(shown(array), scale, cmap) if is_image(array.shape) else _bars(array, scale, NEGATIVE, POSITIVE)
    )


def _framed(stack: np.ndarray, paint: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The slices of a stack side by side, painted, with thin lines between them."""
    longest = max(stack.shape[-2:])
    times, gap = max(1, THIN // longest), max(1, longest // THIN)
    pixels = paint(side_by_side(stack, gap, times))
    pixels[~side_by_side(np.ones((1, *stack.shape[-3:]), bool), gap, times)[0]] = NEUTRAL
    return pixels


def signed_pixels(values: np.ndarray, scale: float, cmap: str | Colormap | None = None) -> np.ndarray:
    """Numbers (H, W) in the diverging colors (or others) from ``-scale`` to ``scale``, (H, W, 3) bytes."""
    colors = np.asarray(color_map(cmap, SIGNED)(0.5 + 0.5 * values / (scale or 1.0), bytes=True))
    return colors[..., :3]


def color_map(cmap: str | Colormap | None, default: str) -> Colormap:
    """The color map that was asked for, or the default one."""
    from matplotlib import colormaps

    try:
        return colormaps.get_cmap(cmap or default)
    except (TypeError, ValueError) as error:
        raise BadInput(f"cmap: {cmap!r} is not a color map of matplotlib; name one, such as {default!r}") from error


def png_of(pixels: np.ndarray, largest: int | None = None) -> bytes:
    """Pixels as a PNG file, reduced where its longest side is more than ``largest``."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if largest is not None:
        image.thumbnail((largest, largest))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _colors(array: np.ndarray) -> np.ndarray:
    """Return an image as (H, W, 3) bytes: colors where there are three channels, else the mean of the channels."""
    if array.ndim == 3:
        array = np.moveaxis(array, 0, -1) if len(array) == 3 else array.mean(0)
    # Black and white are 0 and 1, unless values lie beyond them: so two pictures of one data set are alike bright.
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 1.0)
    scaled = np.rint(255 * (array - low) / (high - low)).astype(np.uint8)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2)


def _bars(array: np.ndarray, scale: float, negative: tuple[int, ...], positive: tuple[int, ...]) -> np.ndarray:
    """Return numbers as bars up and down from a line at zero: (H, W, 4) bytes, transparent around them."""
    rows = array if array.ndim == 2 else array.reshape(1, -1)
    height = BARS_HEIGHT // len(rows) // 2 * 2 + 1  # odd, for a line in the middle
    levels = np.linspace(1, -1, height)[:, None]
    strips = []
    for row in rows:
        low, high = _ends(row / (scale or 1.0))
        pixels = np.zeros((height, len(low), 4), np.uint8)
        pixels[(0 < levels) & (levels <= high)] = (*positive, 255)
        pixels[(low <= levels) & (levels < 0)] = (*negative, 255)
        pixels[height // 2] = (*NEUTRAL, 255)
        strips.append(pixels)
    return np.concatenate(strips)


def _ends(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From where to where the bar of each column of pixels goes: one wide bar a number, or many numbers in a bar."""
    if len(row) <= BARS_WIDTH:
        bars = np.repeat(row, BARS_WIDTH // len(row))
        return bars, bars
    starts = np.arange(BARS_WIDTH) * len(row) // BARS_WIDTH
    return np.minimum.reduceat(row, starts), np.maximum.reduceat(row, starts)
