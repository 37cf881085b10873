"""Rows of panels, each an input or a signed map with its words; every row has one symmetric scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from maxaffine._drawing.pixels import NEGATIVE, NEUTRAL, POSITIVE, SIGNED, color_map, input_pixels, template_pixels
from maxaffine._drawing.shapes import Kind, kind_of, shown
from maxaffine._drawing.sheet import axes_for, new_figure
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

SIDE, GAP, MARGIN, LINE = 1.75, 0.2, 0.15, 0.15
WIDE, HIGH, TICKS = 2.3, 1.2, 0.35  # a panel of lines or bars, and the room for its numbers
SCALE = 0.75
RUNS = 800  # of numbers, in a line of more than twice as many
# A few pixels may carry very steep slopes; the colors end where this share of all values lies.
SHARE = 0.995
# Told apart by readers with any common color blindness (Okabe and Ito).
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


@dataclass(frozen=True, eq=False)
class Panel:
    """One array of a figure, shaped as an input: (C, H, W), (H, W), (C, D, H, W), (D, H, W), (C, T) or (D,)."""

    array: np.ndarray
    words: str  # above it, in one line or several
    # Signed panels share the scale of their row; one that is alone has its own.
    role: Literal["input", "signed", "alone"] = "signed"
    rate: int | float | None = None  # of a signal, in samples per second, where it is known


def panel_figure(
    rows: Sequence[Sequence[Panel]], share: float = SHARE, common: bool = False, scale: float | None = None
) -> Figure:
    """Draw rows of panels: pictures as they are, signed maps from blue over white to red, lines and bars about zero."""
    layout = _Layout.of(rows)
    figure = new_figure(*layout.size)
    _draw_rows(figure.add_axes, layout, rows, share, common, scale)
    return figure


def panel_axes(
    ax: Axes | None,
    rows: Sequence[Sequence[Panel]],
    share: float = SHARE,
    common: bool = False,
    cmap: str | Colormap | None = None,
    size: float | None = None,
) -> Axes:
    """Draw the same into axes (those of a new figure where there are none), as axes inside of them."""
    layout = _Layout.of(rows)
    ax = axes_for(ax, *layout.size, size=size)
    _draw_rows(ax.inset_axes, layout, rows, share, common, None, cmap)
    return ax


@dataclass(frozen=True)
class _Layout:
    """Where panels stand, in inches."""

    kind: Kind
    width: float
    height: float
    words: float
    ticks: float
    size: tuple[float, float]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Panel]]) -> _Layout:
        # All panels of a figure are inputs of one network, or templates shaped like them: they have one kind.
        kind = kind_of(rows[0][0].array.shape)
        width, height, ticks = (SIDE, SIDE, 0.0) if kind is Kind.PICTURE else (WIDE, HIGH, TICKS)
        words = LINE * max(panel.words.count("\n") + 1 for row in rows for panel in row)
        across = max(map(len, rows)) * (width + GAP + ticks) + SCALE
        down = len(rows) * (height + words + ticks + GAP)
        return cls(kind, width, height, words, ticks, (2 * MARGIN + across, 2 * MARGIN + down))

    def at(self, row: int, column: int, width: float) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the whole."""
        # Rows are counted from the top, but matplotlib measures from the bottom.
        left = MARGIN + self.ticks + column * (self.width + GAP + self.ticks)
        low = MARGIN + row * (self.height + self.words + self.ticks + GAP) + self.words + self.height
        return left / self.size[0], 1 - low / self.size[1], width / self.size[0], self.height / self.size[1]


def _draw_rows(
    add: Callable[[tuple[float, float, float, float]], Axes],
    layout: _Layout,
    rows: Sequence[Sequence[Panel]],
    share: float,
    common: bool,
    scale: float | None,
    cmap: str | Colormap | None = None,
) -> None:
    """Draw every panel in axes that are added at its place."""
    _check_share(share)
    everything = [panel for row in rows for panel in row]
    for place, row in enumerate(rows):
        signed = [panel.array for panel in (everything if common else row) if panel.role == "signed"]
        row_scale = scale or scale_end(signed, share)
        for column, panel in enumerate(row):
            ax = add(layout.at(place, column, layout.width))
            ends = scale_end([panel.array], share) if panel.role == "alone" else row_scale
            _draw(ax, panel, layout.kind, ends, cmap)
            ax.set_title(panel.words, fontsize=7, loc="left", pad=3, linespacing=1.15, parse_math=False)
            if layout.kind is Kind.LINES and column == len(row) - 1:
                _name_lines(ax)
        if layout.kind is Kind.PICTURE and any(panel.role == "signed" for panel in row):
            _draw_scale(add(layout.at(place, len(row), 0.1)), row_scale, cmap)


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise BadInput(f"share: {share} is not in (0, 1]; 1 lets the colors end at the largest value")


def scale_end(arrays: Sequence[np.ndarray], share: float = SHARE) -> float:
    """The absolute value at the ends of a scale; for lines and bars every value lies within."""
    if not arrays:
        return 1.0
    picture = kind_of(arrays[0].shape) is Kind.PICTURE
    # Channels are summed first, as they are drawn: what is seen must reach the ends, not what is added up.
    joined = np.concatenate([np.abs(shown(array) if picture else array).ravel() for array in arrays])
    end = np.quantile(joined, share) if picture else joined.max()
    # In a map that is almost everywhere 0 the quantile is 0 too, and would divide by it.
    return float(end) or float(joined.max()) or 1.0


def draw_panel(ax: Axes, panel: Panel, share: float = SHARE, cmap: str | Colormap | None = None) -> None:
    """Draw one panel on axes of their own, in its own scale."""
    _check_share(share)
    _draw(ax, panel, kind_of(panel.array.shape), scale_end([panel.array], share), cmap)
    ax.set_title(panel.words, fontsize=9, parse_math=False)


def _draw(ax: Axes, panel: Panel, kind: Kind, end: float, cmap: str | Colormap | None = None) -> None:
    from matplotlib.ticker import MaxNLocator

    if kind is Kind.PICTURE:
        pixels = input_pixels(panel.array) if panel.role == "input" else template_pixels(panel.array, end, cmap)
        ax.imshow(pixels, interpolation="nearest")
        ax.set_axis_off()
        if panel.role == "alone":
            words = f"colors from −{end:.2g} to {end:.2g}"
            ax.text(0, -0.03, words, fontsize=6, va="top", transform=ax.transAxes)
        return
    ax.axhline(0, color="gray", linewidth=0.6)
    ax.tick_params(labelsize=6.5, length=2, pad=1.5)
    ax.spines[["top", "right"]].set_visible(False)
    words = "input number" if kind is Kind.BARS else "seconds" if panel.rate else "position"
    ax.set_xlabel(words, fontsize=6.5, labelpad=1)
    if panel.role != "input":
        ax.set_ylim(-1.05 * end, 1.05 * end)
    if kind is Kind.LINES:
        for line, values in enumerate(np.atleast_2d(panel.array)):
            places, drawn = thinned(values)
            places, color = places / (panel.rate or 1), LINES[line % len(LINES)]
            ax.plot(places, drawn, color=color, linewidth=0.9, label=f"channel {line}")
        return
    signed = [POSITIVE if value > 0 else NEGATIVE for value in panel.array]
    colors = [NEUTRAL] * len(panel.array) if panel.role == "input" else signed
    ax.bar(np.arange(len(panel.array)), panel.array, color=np.array(colors) / 255, width=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places and values to draw of a line: of a long one the least and the largest of every run of numbers."""
    # The runs are narrower than a pen, so that the picture is the same, at a hundredth of the size of its file.
    if len(values) <= 2 * RUNS:
        return np.arange(len(values)), values
    starts = np.arange(RUNS) * len(values) // RUNS
    ends = [extreme.reduceat(values, starts) for extreme in (np.minimum, np.maximum)]
    return np.repeat(starts, 2), np.stack(ends, 1).ravel()


def _name_lines(ax: Axes) -> None:
    """Name the channels, where there are several, beside the last panel of a row: there, nothing is hidden."""
    lines = [line for line in ax.get_lines() if str(line.get_label()).startswith("channel")]
    if len(lines) > 1:
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        ax.legend(handles=lines, fontsize=5.5, frameon=False, borderpad=0, handlelength=1, **place)


def _draw_scale(ax: Axes, end: float, cmap: str | Colormap | None = None) -> None:
    ax.imshow(np.linspace(1, -1, 129)[:, None], cmap=color_map(cmap, SIGNED), aspect="auto", extent=(0, 1, -1, 1))
    ax.set_xticks([])
    ax.yaxis.tick_right()
    ax.set_yticks([-1, 0, 1], [f"−{end:.2g}", "0", f"{end:.2g}"])
    ax.tick_params(labelsize=7, length=2)
