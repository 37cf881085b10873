"""Pictures: inputs, and templates as signed heat maps; computes nothing but colours.

Panels hold no text, so that a page can put its own beside them; the composed figures stand alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maxaffine.drawing import input_pixels, is_image, png_of, say, short, signed_pixels, template_pixels, whole_sheet
from maxaffine.report.facts import Explanation, Neighbourhood, Neighbours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ODD = "#b2182b"
LEGEND_STEPS = 129
# Of the composed figures, in inches.
PANEL, GAP, MARGIN, LINE = 2.0, 0.15, 0.15, 0.15
THUMBNAIL, NAMES = 0.85, 1.5

# Number of an input, caption, and whether the caption is a warning.
Example = tuple[int, str, bool]


def input_panel(array: np.ndarray, largest: int | None = None) -> bytes:
    """Draw one input without any text.

    Args:
        array: (C, H, W) or (H, W) image, or any other shape, drawn as bars.
        largest: Longest side in pixels; larger pictures are reduced.

    Returns:
        A PNG file.
    """
    return png_of(input_pixels(array), largest)


def template_panel(array: np.ndarray, scale: float, largest: int | None = None) -> bytes:
    """Draw one template, without any text, in colours (or bars) symmetric about zero.

    Args:
        array: A row of A, shaped as the input; channels are summed.
        scale: Absolute value at the ends of the colours (or bars).
        largest: Longest side in pixels; larger pictures are reduced.

    Returns:
        A PNG file.
    """
    return png_of(template_pixels(array, scale), largest)


def legend_panel() -> bytes:
    """Draw the colours of the templates, the most negative at the left.

    Returns:
        A PNG file of one row.
    """
    return png_of(signed_pixels(np.linspace(-1, 1, LEGEND_STEPS)[None], 1.0))


def explanation_figure(explanation: Explanation) -> Figure:
    """Draw one input and the templates of its top outputs, with their scale.

    Args:
        explanation: What to draw.

    Returns:
        The figure.
    """
    panels = 1 + len(explanation.splits)
    figure, ax = whole_sheet(2 * MARGIN + panels * (PANEL + GAP) + 0.75, 2 * MARGIN + 3.5 * LINE + PANEL)
    top = MARGIN + 3.5 * LINE
    _place(ax, input_pixels(explanation.input), MARGIN, top, PANEL)
    say(ax, f"test input {explanation.index}\nclass: {short(explanation.label, 24)}", MARGIN, MARGIN, size=8.5)
    for column, split in enumerate(explanation.splits, start=1):
        left = MARGIN + column * (PANEL + GAP)
        sign = "+" if split.offset >= 0 else "−"
        parts = f"{split.inner:.2f} {sign} {abs(split.offset):.2f} = {split.logit:.2f}".replace("-", "−")
        say(ax, f"template of {short(split.name, 20)}\n⟨A, x⟩ + b = logit\n{parts}", left, MARGIN, size=8.5)
        _place(ax, template_pixels(split.template, explanation.scale), left, top, PANEL)
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
    figure, ax = whole_sheet(left + (1 + found.count) * step + MARGIN, 2 * MARGIN + len(query.layers) * row_height)
    say(ax, f"test input {query.index}\n{short(query.label, 14)}", left, MARGIN)
    _place(ax, input_pixels(query.input), left, MARGIN + 2 * LINE, THUMBNAIL)
    for row, (name, layer) in enumerate(query.layers):
        top = MARGIN + row * row_height
        say(ax, textwrap.fill(name, 24), MARGIN, top + 2 * LINE)
        for column, near in enumerate(layer, start=1):
            colour = "black" if near.same else ODD
            text = f"{'' if near.same else '≠ '}{short(near.label, 12)}\nd = {near.distance:.3f}"
            say(ax, text, left + column * step, top, colour)
            _place(ax, input_pixels(found.inputs[near.index]), left + column * step, top + 2 * LINE, THUMBNAIL)
    return figure


def examples_figure(rows: Sequence[tuple[str, Sequence[Example]]], inputs: Mapping[int, np.ndarray]) -> Figure:
    """Draw rows of inputs, each with words at its left and under a caption of its own.

    Args:
        rows: Words of each row, and its inputs: number, caption, and whether the caption is a warning.
        inputs: The inputs by number.

    Returns:
        The figure.
    """
    step, row_height = THUMBNAIL + GAP, THUMBNAIL + 2.5 * LINE
    left = MARGIN + NAMES
    most = max(len(examples) for _, examples in rows)
    figure, ax = whole_sheet(left + most * step + MARGIN, 2 * MARGIN + len(rows) * row_height)
    for row, (words, examples) in enumerate(rows):
        top = MARGIN + row * row_height
        say(ax, words, MARGIN, top + 2 * LINE)
        for column, (number, caption, warning) in enumerate(examples):
            say(ax, caption, left + column * step, top, ODD if warning else "black")
            _place(ax, input_pixels(inputs[number]), left + column * step, top + 2 * LINE, THUMBNAIL)
    return figure


def _place(ax: Axes, pixels: np.ndarray, left: float, top: float, side: float) -> None:
    """Put a picture into a square, its longer side as long as the square's."""
    height, width = (side * length / max(pixels.shape[:2]) for length in pixels.shape[:2])
    ax.imshow(pixels, extent=(left, left + width, top + height, top), aspect="auto")


def _draw_scale(ax: Axes, left: float, top: float, scale: float, picture: bool) -> None:
    if not picture:
        say(ax, f"bars from\n−{scale:.2g}\nto {scale:.2g}", left, top)
        return
    ax.imshow(
        signed_pixels(np.linspace(1, -1, LEGEND_STEPS)[:, None], 1.0),
        extent=(left, left + 0.12, top + PANEL, top),
        aspect="auto",
    )
    for value, text in ((1, f"{scale:.2g}"), (0, "0"), (-1, f"−{scale:.2g}")):
        ax.text(left + 0.18, top + PANEL * (1 - value) / 2, text, fontsize=8, va="center")
