"""How numbers spread: histograms side by side, with a line at a value to compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maxaffine._drawing.sheet import axes_for, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 2.9, 2.3
# Room about a panel and for a line of the legend, in inches.
LEFT, RIGHT, TOP, BOTTOM, LINE = 0.55, 0.12, 0.28, 0.42, 0.2
BINS = 40
# Okabe and Ito's, which color-blind readers can tell apart too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True, eq=False)
class Spread:
    """One panel of histograms, with its title above it and what the numbers are below."""

    title: str
    label: str
    series: Mapping[str, np.ndarray]
    mark: float | None  # a value to compare with
    limits: tuple[float, float] | None = None  # those of the numbers by default, the mark among them
    counted: str = "share of the inputs"


def spread_figure(panels: Sequence[Spread], mark: str, title: str = "") -> Figure:
    """Draw histograms side by side."""
    size = _size(panels, title)
    figure = new_figure(*size)
    axes = _draw_row(figure.add_axes, size, panels, mark)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", **_style(panels))
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def spread_axes(
    ax: Axes | None, panels: Sequence[Spread], mark: str, title: str = "", width: float | None = None
) -> Axes:
    """Draw the same into axes (those of a new figure where there are none), as axes inside of them."""
    size = _size(panels, title)
    ax = axes_for(ax, *size, size=width)
    axes = _draw_row(ax.inset_axes, size, panels, mark)
    ax.legend(*axes[0].get_legend_handles_labels(), loc="lower center", **_style(panels))
    ax.set_title(title, fontsize=9, y=1, pad=-14)
    return ax


def _size(panels: Sequence[Spread], title: str) -> tuple[float, float]:
    return WIDTH * len(panels), HEIGHT + (0.3 if title else 0)


def _style(panels: Sequence[Spread]) -> dict[str, Any]:
    """The look of the legend, with a column for each name where they fit."""
    return {"fontsize": 7, "frameon": False, "ncols": min(len(panels[0].series) + 1, 2 * len(panels))}


def _draw_row(
    add: Callable[[tuple[float, float, float, float]], Axes],
    size: tuple[float, float],
    panels: Sequence[Spread],
    mark: str,
) -> list[Axes]:
    """The panels from left to right, in axes that are added with room for their words, the title and the legend."""
    # As many lines as `_style` needs for its columns, rounded up.
    legend = LINE * -(-(len(panels[0].series) + 1) // (2 * len(panels)))
    axes = []
    for place, panel in enumerate(panels):
        left, bottom = place * WIDTH + LEFT, BOTTOM + legend
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - bottom
        axes.append(add((left / size[0], bottom / size[1], width / size[0], height / size[1])))
        _draw(axes[-1], panel, mark)
    axes[0].set_ylabel(panels[0].counted, fontsize=8)
    return axes


def _draw(ax: Axes, panel: Spread, mark: str) -> None:
    finite = [values[np.isfinite(values)] for values in panel.series.values()]
    marks = [] if panel.mark is None else [panel.mark]
    low, high = panel.limits or (
        min([*marks, *(float(values.min()) for values in finite if len(values))]),
        max([*marks, *(float(values.max()) for values in finite if len(values))]),
    )
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for color, (name, values) in zip(COLORS, panel.series.items(), strict=False):
        # Shares rather than counts, so that a small test set stands beside a large training set; what is not finite, or
        # outside given limits, is counted at the ends.
        share = np.full(len(values), 1 / max(1, len(values)))
        clipped = np.clip(values, edges[0], edges[-1])
        ax.hist(clipped, edges.tolist(), weights=share, color=color, alpha=0.45, label=f"{name} (line: mean)")
        inside = values[np.isfinite(values)]
        if len(inside):
            ax.axvline(float(inside.mean()), color=color, linewidth=1.4)
    if panel.mark is not None:
        ax.axvline(panel.mark, color="black", linestyle="--", linewidth=1, label=mark)
    ax.set_title(panel.title, fontsize=9)
    ax.set_xlabel(panel.label, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
