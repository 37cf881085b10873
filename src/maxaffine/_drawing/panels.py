"""Rows of panels, each an input or a signed map with its words; every row has one symmetric scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from maxaffine._drawing.extras import require
from maxaffine._drawing.pixels import NEGATIVE, NEUTRAL, POSITIVE, SIGNED, input_pixels, template_pixels
from maxaffine._drawing.shapes import Kind, kind_of, shown
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE, GAP, MARGIN, LINE = 1.75, 0.2, 0.15, 0.15
WIDE, HIGH, TICKS = 2.3, 1.2, 0.35  # a panel of lines or bars, and the room for its numbers
SCALE = 0.75
# A few pixels may carry very steep slopes; the colors end where this share of all values lies.
SHARE = 0.995
# Told apart by readers with any common color blindness (Okabe and Ito).
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


@dataclass(frozen=True, eq=False)
class Panel:
    """One array of a figure.

    Attributes:
        array: Shaped as an input: (C, H, W), (H, W), (C, T) or (D,).
        words: What stands above it, in one line or several.
        role: ``"input"``; ``"signed"``, in the common scale of its row; or ``"alone"``, signed in its own scale.
    """

    array: np.ndarray
    words: str
    role: Literal["input", "signed", "alone"] = "signed"


def panel_figure(
    rows: Sequence[Sequence[Panel]], share: float = SHARE, common: bool = False, scale: float | None = None
) -> Figure:
    """Draw rows of panels: pictures as they are, signed maps from blue over white to red, lines and bars about zero.

    Args:
        rows: The panels, row by row.
        share: Share of a row's signed values that lie within its colors, at most 1; the others are drawn as the ends.
        common: Whether all rows have one scale.
        scale: The absolute value at its ends; found among the values by default.

    Returns:
        The figure.

    Raises:
        BadInput: When the arrays have no plain picture, or ``share`` is not in (0, 1].
        MaxAffineError: When matplotlib is absent.
    """
    require("a figure")
    from matplotlib.figure import Figure

    if not 0 < share <= 1:
        raise BadInput(f"share: {share} is not in (0, 1]; 1 lets the colors end at the largest value")
    kind = kind_of(rows[0][0].array.shape)
    width, height = (SIDE, SIDE) if kind is Kind.PICTURE else (WIDE, HIGH)
    ticks = 0.0 if kind is Kind.PICTURE else TICKS
    words = LINE * max(panel.words.count("\n") + 1 for row in rows for panel in row)
    step, pitch = width + GAP + ticks, height + words + ticks + GAP
    total = (2 * MARGIN + max(map(len, rows)) * step + SCALE, 2 * MARGIN + len(rows) * pitch)
    figure = Figure(figsize=total)
    everything = [panel for row in rows for panel in row]
    for place, row in enumerate(rows):
        top = MARGIN + place * pitch + words
        signed = [panel.array for panel in (everything if common else row) if panel.role == "signed"]
        row_scale = scale or scale_end(signed, share)
        for column, panel in enumerate(row):
            left = MARGIN + ticks + column * step
            ax = _axes(figure, total, left, top, width, height)
            ends = scale_end([panel.array], share) if panel.role == "alone" else row_scale
            _draw(ax, panel, kind, ends)
            ax.set_title(panel.words, fontsize=7, loc="left", pad=3, linespacing=1.15, parse_math=False)
        if kind is Kind.LINES:
            _name_lines(figure.axes[-1])
        if kind is Kind.PICTURE and any(panel.role == "signed" for panel in row):
            _draw_scale(_axes(figure, total, MARGIN + len(row) * step, top, 0.1, height), row_scale)
    return figure


def scale_end(arrays: Sequence[np.ndarray], share: float = SHARE) -> float:
    """The absolute value at the ends of a scale; for lines and bars every value lies within.

    Args:
        arrays: Signed arrays of one kind, as in :class:`Panel`.
        share: Share of the values of pictures that lie within the colors.

    Returns:
        The value, above 0.
    """
    if not arrays:
        return 1.0
    picture = kind_of(arrays[0].shape) is Kind.PICTURE
    joined = np.concatenate([np.abs(shown(array) if picture else array).ravel() for array in arrays])
    end = np.quantile(joined, share) if picture else joined.max()
    return float(end) or float(joined.max()) or 1.0


def _axes(figure: Figure, total: tuple[float, float], left: float, top: float, width: float, height: float) -> Axes:
    """Axes by inches from the top left corner."""
    return figure.add_axes(
        (left / total[0], 1 - (top + height) / total[1], width / total[0], height / total[1]),
    )


def _draw(ax: Axes, panel: Panel, kind: Kind, end: float) -> None:
    from matplotlib.ticker import MaxNLocator

    if kind is Kind.PICTURE:
        pixels = input_pixels(panel.array) if panel.role == "input" else template_pixels(panel.array, end)
        ax.imshow(pixels, interpolation="nearest")
        ax.set_axis_off()
        if panel.role == "alone":
            words = f"colors from −{end:.2g} to {end:.2g}"
            ax.text(0, -0.03, words, fontsize=6, va="top", transform=ax.transAxes)
        return
    ax.axhline(0, color="gray", linewidth=0.6)
    ax.tick_params(labelsize=6.5, length=2, pad=1.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("input number" if kind is Kind.BARS else "position", fontsize=6.5, labelpad=1)
    if panel.role != "input":
        ax.set_ylim(-1.05 * end, 1.05 * end)
    if kind is Kind.LINES:
        for line, values in enumerate(np.atleast_2d(panel.array)):
            ax.plot(values, color=LINES[line % len(LINES)], linewidth=0.9, label=f"channel {line}")
        return
    signed = [POSITIVE if value > 0 else NEGATIVE for value in panel.array]
    colors = [NEUTRAL] * len(panel.array) if panel.role == "input" else signed
    ax.bar(np.arange(len(panel.array)), panel.array, color=np.array(colors) / 255, width=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _name_lines(ax: Axes) -> None:
    """Name the channels, where there are several, beside the last panel of a row: there, nothing is hidden."""
    lines = [line for line in ax.get_lines() if str(line.get_label()).startswith("channel")]
    if len(lines) > 1:
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        ax.legend(handles=lines, fontsize=5.5, frameon=False, borderpad=0, handlelength=1, **place)


def _draw_scale(ax: Axes, end: float) -> None:
    ax.imshow(np.linspace(1, -1, 129)[:, None], cmap=SIGNED, aspect="auto", extent=(0, 1, -1, 1))
    ax.set_xticks([])
    ax.yaxis.tick_right()
    ax.set_yticks([-1, 0, 1], [f"−{end:.2g}", "0", f"{end:.2g}"])
    ax.tick_params(labelsize=7, length=2)
