"""Pictures: inputs, and templates as signed heat maps; computes nothing but colours.

Panels hold no text, so that a page can put its own beside them; the composed figures stand alone.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from maxaffine.report.facts import Explanation, Neighbourhood, Neighbours
from maxaffine.report.shapes import is_image, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Diverging, symmetric about white, and told apart by readers with any common colour blindness (ColorBrewer).
SIGNED = "RdBu_r"
NEGATIVE, POSITIVE, NEUTRAL = (33, 102, 172), (178, 24, 43), (122, 135, 148)
LEGEND_STEPS = 129
# Pixels of a panel of bars.
BARS_HEIGHT, BARS_WIDTH = 97, 160
# Of the composed figures, in inches.
DPI = 150
PANEL, GAP, MARGIN, LINE = 2.0, 0.15, 0.15, 0.15
THUMBNAIL, NAMES = 0.85, 1.5


def input_panel(array: np.ndarray, largest: int | None = None) -> bytes:
    """Draw one input without any text.

    Args:
        array: (C, H, W) or (H, W) image, or any other shape, drawn as bars.
        largest: Longest side in pixels; larger pictures are reduced.

    Returns:
        A PNG file.
    """
    return _png(_input_pixels(array), largest)


def template_panel(array: np.ndarray, scale: float, largest: int | None = None) -> bytes:
    """Draw one template, without any text, in colours (or bars) symmetric about zero.

    Args:
        array: A row of A, shaped as the input; channels are summed.
        scale: Absolute value at the ends of the colours (or bars).
        largest: Longest side in pixels; larger pictures are reduced.

    Returns:
        A PNG file.
    """
    return _png(_template_pixels(array, scale), largest)


def legend_panel() -> bytes:
    """Draw the colours of the templates, the most negative at the left.

    Returns:
        A PNG file of one row.
    """
    return _png(_signed(np.linspace(-1, 1, LEGEND_STEPS)[None], 1.0))


def explanation_figure(explanation: Explanation) -> Figure:
    """Draw one input and the templates of its top outputs, with their scale.

    Args:
        explanation: What to draw.

    Returns:
        The figure.
    """
    panels = 1 + len(explanation.splits)
    figure, ax = _sheet(2 * MARGIN + panels * (PANEL + GAP) + 0.75, 2 * MARGIN + 3.5 * LINE + PANEL)
    top = MARGIN + 3.5 * LINE
    _place(ax, _input_pixels(explanation.input), MARGIN, top, PANEL)
    _say(ax, f"test input {explanation.index}\nclass: {_short(explanation.label, 24)}", MARGIN, MARGIN, size=8.5)
    for column, split in enumerate(explanation.splits, start=1):
        left = MARGIN + column * (PANEL + GAP)
        sign = "+" if split.offset >= 0 else "−"
        parts = f"{split.inner:.2f} {sign} {abs(split.offset):.2f} = {split.logit:.2f}".replace("-", "−")
        _say(ax, f"template of {_short(split.name, 20)}\n⟨A, x⟩ + b = logit\n{parts}", left, MARGIN, size=8.5)
        _place(ax, _template_pixels(split.template, explanation.scale), left, top, PANEL)
    _draw_scale(ax, MARGIN + panels * (PANEL + GAP), top, explanation.scale, is_image(explanation.input.shape))
    return figure


def neighbours_figure(query: Neighbourhood, found: Neighbours) -> Figure:
    """Draw one test input and, in a row for each operator, its nearest training inputs.

    Args:
        query: The test input with its neighbours.
        found: Where the training inputs are looked up.

    Returns:
        The figure.
    """
    step, row_height = THUMBNAIL + GAP, THUMBNAIL + 2.5 * LINE
    left = MARGIN + NAMES
    figure, ax = _sheet(left + (1 + found.count) * step + MARGIN, 2 * MARGIN + len(query.layers) * row_height)
    _say(ax, f"test input {query.index}\n{_short(query.label, 14)}", left, MARGIN)
    _place(ax, _input_pixels(query.input), left, MARGIN + 2 * LINE, THUMBNAIL)
    for row, (name, layer) in enumerate(query.layers):
        top = MARGIN + row * row_height
        _say(ax, textwrap.fill(name, 24), MARGIN, top + 2 * LINE)
        for column, near in enumerate(layer, start=1):
            colour = "black" if near.same else "#b2182b"
            text = f"{'' if near.same else '≠ '}{_short(near.label, 12)}\nd = {near.distance:.3f}"
            _say(ax, text, left + column * step, top, colour)
            _place(ax, _input_pixels(found.inputs[near.index]), left + column * step, top + 2 * LINE, THUMBNAIL)
    return figure


def png(figure: Figure) -> bytes:
    """Encode a figure.

    Args:
        figure: The figure.

    Returns:
        A PNG file.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure whose coordinates are inches from its top left corner: laying out many axes takes seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_autoscale_on(False)
    ax.set_axis_off()
    return figure, ax


def _place(ax: Axes, pixels: np.ndarray, left: float, top: float, side: float) -> None:
    """Put a picture into a square, its longer side as long as the square's."""
    height, width = (side * length / max(pixels.shape[:2]) for length in pixels.shape[:2])
    ax.imshow(pixels, extent=(left, left + width, top + height, top), aspect="auto")


def _say(ax: Axes, text: str, left: float, top: float, colour: str = "black", size: float = 7.0) -> None:
    # A class may be called "$5$", which is no formula.
    ax.text(left, top, text, fontsize=size, color=colour, va="top", linespacing=1.15, parse_math=False)


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _draw_scale(ax: Axes, left: float, top: float, scale: float, picture: bool) -> None:
    if not picture:
        _say(ax, f"bars from\n−{scale:.2g}\nto {scale:.2g}", left, top)
        return
    ax.imshow(
        _signed(np.linspace(1, -1, LEGEND_STEPS)[:, None], 1.0),
        extent=(left, left + 0.12, top + PANEL, top),
        aspect="auto",
    )
    for value, text in ((1, f"{scale:.2g}"), (0, "0"), (-1, f"−{scale:.2g}")):
        ax.text(left + 0.18, top + PANEL * (1 - value) / 2, text, fontsize=8, va="center")


def _input_pixels(array: np.ndarray) -> np.ndarray:
    return _colours(array) if is_image(array.shape) else _bars(array, float(np.abs(array).max()), NEUTRAL, NEUTRAL)


def _template_pixels(array: np.ndarray, scale: float) -> np.ndarray:
    return _signed(shown(array), scale) if is_image(array.shape) else _bars(array, scale, NEGATIVE, POSITIVE)


def _colours(array: np.ndarray) -> np.ndarray:
    """Return an image as (H, W, 3) bytes: colours where there are three channels, else the mean of the channels."""
    if array.ndim == 3:
        array = np.moveaxis(array, 0, -1) if len(array) == 3 else array.mean(0)
    low, high = min(float(array.min()), 0.0), max(float(array.max()), 1.0)
    scaled = np.rint(255 * (array - low) / (high - low)).astype(np.uint8)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2)


def _signed(values: np.ndarray, scale: float) -> np.ndarray:
    """Return (H, W) numbers as (H, W, 3) bytes of the diverging colours from -scale to scale."""
    from matplotlib import colormaps

    colours = np.asarray(colormaps[SIGNED](0.5 + 0.5 * values / (scale or 1.0), bytes=True))
    return colours[..., :3]


def _bars(array: np.ndarray, scale: float, negative: tuple[int, ...], positive: tuple[int, ...]) -> np.ndarray:
    """Return numbers as bars up and down from a line at zero: (H, W, 4) bytes, transparent around them."""
    heights = np.repeat(array.ravel() / (scale or 1.0), max(1, BARS_WIDTH // array.size))[None]
    levels = np.linspace(1, -1, BARS_HEIGHT)[:, None]
    pixels = np.zeros((BARS_HEIGHT, heights.shape[1], 4), np.uint8)
    pixels[(0 < levels) & (levels <= heights)] = (*positive, 255)
    pixels[(heights <= levels) & (levels < 0)] = (*negative, 255)
    pixels[BARS_HEIGHT // 2] = (*NEUTRAL, 255)
    return pixels


def _png(pixels: np.ndarray, largest: int | None = None) -> bytes:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if largest is not None:
        image.thumbnail((largest, largest))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
