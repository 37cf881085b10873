"""Pictures: inputs, and templates as signed heat maps; computes nothing but colours.

Panels hold no text, so that a page can put its own beside them; the composed figures stand alone.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from maxaffine.report.facts import Explanation, Neighbourhood, Neighbours
from maxaffine.report.shapes import is_image, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Diverging, symmetric about white, and told apart by readers with any common colour blindness (ColorBrewer).
SIGNED = "RdBu_r"
NEGATIVE, POSITIVE = "#2166ac", "#b2182b"
NEUTRAL = "#7a8794"
DPI = 150
LEGEND_STEPS = 129


def input_panel(array: np.ndarray, largest: int | None = None) -> bytes:
    """Draw one input without any text.

    Args:
        array: (C, H, W) or (H, W) image, or any other shape, drawn as bars.
        largest: Longest side in pixels; larger pictures are reduced.

    Returns:
        A PNG file.
    """
    if not is_image(array.shape):
        return _bars_png(array, float(np.abs(array).max()), NEUTRAL, NEUTRAL)
    return _png(_colours(array), largest)


def template_panel(array: np.ndarray, scale: float, largest: int | None = None) -> bytes:
    """Draw one template, without any text, in colours symmetric about zero.

    Args:
        array: A row of A, shaped as the input; channels are summed.
        scale: Absolute value at the ends of the colours (or bars).
        largest: Longest side in pixels; larger pictures are reduced.

    Returns:
        A PNG file.
    """
    if not is_image(array.shape):
        return _bars_png(array, scale, NEGATIVE, POSITIVE)
    return _png(_signed(shown(array), scale), largest)


def legend_panel() -> bytes:
    """Draw the colours of the templates, the most negative at the left.

    Returns:
        A PNG file of one row.
    """
    return _png(_signed(np.linspace(-1, 1, LEGEND_STEPS)[None], 1.0))


def explanation_figure(explanation: Explanation) -> Figure:
    """Draw one input and the templates of its top outputs, with the colour scale.

    Args:
        explanation: What to draw.

    Returns:
        The figure.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = 1 + len(explanation.splits)
    picture = is_image(explanation.input.shape)
    figure = Figure(figsize=(2.3 * columns + 0.7, 3.0), layout="constrained")
    axes = np.ravel(figure.subplots(1, columns))
    scale = explanation.scale
    _draw_input(axes[0], explanation.input)
    _title(axes[0], f"test input {explanation.index}\nclass: {explanation.label}\n")
    for ax, split in zip(axes[1:], explanation.splits, strict=True):
        if picture:
            ax.imshow(_signed(shown(split.template), scale))
            ax.set_axis_off()
        else:
            _draw_bars(ax, split.template, scale, NEGATIVE, POSITIVE)
            ax.set_xlabel("feature", fontsize=8)
            ax.tick_params(labelsize=7)
        sign = "+" if split.offset >= 0 else "−"
        parts = f"{split.inner:.2f} {sign} {abs(split.offset):.2f} = {split.logit:.2f}"
        _title(ax, f"template of {split.name}\n⟨A, x⟩ + b = logit\n{parts}")
    if picture:
        colours = ScalarMappable(Normalize(-scale, scale), SIGNED)
        bar = figure.colorbar(colours, ax=list(axes[1:]), shrink=0.7, ticks=[-scale, 0, scale], format="%.2g")
        bar.ax.tick_params(labelsize=8)
    return figure


def neighbours_figure(query: Neighbourhood, found: Neighbours) -> Figure:
    """Draw one test input and, in a row for each operator, its nearest training inputs.

    Args:
        query: The test input with its neighbours.
        found: Where the training inputs are looked up.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    rows, columns = len(query.layers), 1 + found.count
    figure = Figure(figsize=(1.15 * columns + 0.9, 1.45 * rows), layout="constrained")
    axes = np.reshape(figure.subplots(rows, columns), (rows, columns))
    for row, (name, layer) in enumerate(query.layers):
        for ax in axes[row]:
            ax.set_axis_off()
        if row == 0:
            _draw_input(axes[0, 0], query.input)
            _title(axes[0, 0], f"test input {query.index}\n{query.label}", colour="black", size=7)
        axes[row, 0].text(
            -0.05, 0.5, name, transform=axes[row, 0].transAxes, fontsize=7, ha="right", va="center", parse_math=False
        )
        for ax, near in zip(axes[row, 1:], layer, strict=False):
            _draw_input(ax, found.inputs[near.index])
            colour = "black" if near.same else POSITIVE
            _title(ax, f"{'' if near.same else '≠ '}{near.label}\nd = {near.distance:.3f}", colour=colour, size=7)
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


def _title(ax: Axes, text: str, colour: str = "black", size: float = 8.5) -> None:
    # A class may be called "$5$", which is no formula.
    ax.set_title(text, fontsize=size, color=colour, parse_math=False)


def _draw_input(ax: Axes, array: np.ndarray) -> None:
    if is_image(array.shape):
        ax.imshow(_colours(array))
    else:
        _draw_bars(ax, array, float(np.abs(array).max()), NEUTRAL, NEUTRAL)
    ax.set_axis_off()


def _draw_bars(ax: Axes, array: np.ndarray, scale: float, negative: str, positive: str) -> None:
    heights = array.ravel()
    edges = np.arange(len(heights) + 1) - 0.5
    # Two steps draw thousands of bars as fast as one.
    ax.stairs(np.maximum(heights, 0), edges, fill=True, color=positive, linewidth=0)
    ax.stairs(np.minimum(heights, 0), edges, fill=True, color=negative, linewidth=0)
    ax.axhline(0, color=NEUTRAL, linewidth=0.8)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(-1.05 * (scale or 1.0), 1.05 * (scale or 1.0))


def _bars_png(array: np.ndarray, scale: float, negative: str, positive: str) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1.2))
    figure.patch.set_alpha(0)
    ax = figure.add_axes((0, 0, 1, 1))
    _draw_bars(ax, array, scale, negative, positive)
    ax.set_axis_off()
    return png(figure)


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


def _png(colours: np.ndarray, largest: int | None = None) -> bytes:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(colours))
    if largest is not None:
        image.thumbnail((largest, largest))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
