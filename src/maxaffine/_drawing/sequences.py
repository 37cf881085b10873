"""A sequence above its template: panels over one axis of time, with curves of norms and rasters of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maxaffine._drawing.pixels import SIGNED
from maxaffine._drawing.sheet import axes_for, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = 4  # channels up to which a sequence is drawn as lines; more are a picture
# Of the figure, a panel with its title, the margins beside and the room for the words below, in inches.
WIDTH, ROW, LEFT, RIGHT, BOTTOM, TITLE = 7.0, 1.35, 0.62, 0.12, 0.42, 0.24


@dataclass(frozen=True, eq=False)
class SequencePicture:
    """What is drawn over time.

    Attributes:
        panels: Title, values (T, channels), and whether colors are symmetric about zero.
        curves: Label, style of the line as matplotlib writes it, and values (T,), drawn on a logarithmic scale.
        marks: Label and value at the time before the first step.
        curves_title: Of the panel of curves.
        rasters: Title and codes (T, units).
    """

    panels: Sequence[tuple[str, np.ndarray, bool]]
    curves: Sequence[tuple[str, str, np.ndarray]]
    marks: Sequence[tuple[str, float]]
    curves_title: str
    rasters: Sequence[tuple[str, np.ndarray]]


def sequence_figure(picture: SequencePicture) -> Figure:
    """Draw a sequence over time."""
    height = _height(picture)
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _draw(axes, picture, height)
    return figure


def sequence_axes(ax: Axes | None, picture: SequencePicture, size: float | None = None) -> Axes:
    """Draw the same into axes (those of a new figure where there are none), as axes inside of them."""
    height = _height(picture)
    ax = axes_for(ax, WIDTH, height, size=size)
    _draw(ax, picture, height)
    return ax


def _height(picture: SequencePicture) -> float:
    return ROW * (len(picture.panels) + 1 + len(picture.rasters)) + BOTTOM


def _draw(ax: Axes, picture: SequencePicture, height: float) -> None:
    count = len(picture.panels) + 1 + len(picture.rasters)
    left, width, tall = LEFT / WIDTH, 1 - (LEFT + RIGHT) / WIDTH, (ROW - TITLE) / height
    boxes = [(left, (BOTTOM + (count - 1 - row) * ROW) / height, width, tall) for row in range(count)]
    insets = [ax.inset_axes(box) for box in boxes]
    titles = [title for title, *_ in picture.panels] + [picture.curves_title] + [title for title, _ in picture.rasters]
    for axes, title in zip(insets, titles, strict=True):
        axes.set_title(title, fontsize=8, loc="left", parse_math=False, pad=3)
        axes.tick_params(labelsize=7, labelbottom=axes is insets[-1])
        axes.spines[["top", "right"]].set_visible(False)
    for axes, (_, values, signed) in zip(insets, picture.panels, strict=False):
        _draw_series(axes, values, signed)
    _draw_curves(insets[len(picture.panels)], picture)
    for axes, (_, codes) in zip(insets[len(picture.panels) + 1 :], picture.rasters, strict=True):
        axes.imshow(codes.T, aspect="auto", cmap="Greys", vmin=0, vmax=max(1, codes.max()), interpolation="nearest")
        axes.set_ylabel("unit", fontsize=8)
    steps = len(picture.panels[0][1])
    for axes in insets:
        axes.set_xlim(-1.5 if picture.marks else -0.5, steps - 0.5)
        axes.locator_params(axis="x", integer=True)
    insets[-1].set_xlabel("time step", fontsize=8)


def _draw_series(axes: Axes, values: np.ndarray, signed: bool) -> None:
    """A sequence as lines of its channels or, of many, as a picture."""
    if values.shape[1] <= LINES:
        axes.plot(values, linewidth=1)
        axes.axhline(0, color="0.6", linewidth=0.5, zorder=0)
        return
    end = float(np.abs(values).max()) or 1.0
    symmetric: dict[str, Any] = {"cmap": SIGNED, "vmin": -end, "vmax": end}
    options: dict[str, Any] = symmetric if signed or values.min() < 0 else {"cmap": "Greys"}
    axes.imshow(values.T, aspect="auto", interpolation="nearest", **options)
    axes.set_ylabel("channel", fontsize=8)


def _draw_curves(axes: Axes, picture: SequencePicture) -> None:
    for label, style, values in picture.curves:
        # A logarithm has no place for zero: such steps are left open.
        axes.plot(np.where(values > 0, values, np.nan), style, linewidth=1.1, label=label or "_")
    for marker, (label, value) in zip("osD^v", picture.marks, strict=False):
        if value > 0:
            axes.plot(-1, value, marker, color="0.3", markersize=4, label=label)
    if any((values > 0).any() for _, _, values in picture.curves):
        axes.set_yscale("log")
    axes.legend(fontsize=6.5, frameon=False, ncols=2)
