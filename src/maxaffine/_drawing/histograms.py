"""How numbers spread: histograms side by side, with a line at a value to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maxaffine._drawing.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 2.9, 2.3
BINS = 40
# Okabe and Ito's, which color-blind readers can tell apart too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True, eq=False)
class Spread:
    """One panel of histograms.

    Attributes:
        title: What stands above it.
        label: What the numbers are.
        series: Numbers by name; the means are marked.
        mark: A value to compare with, drawn as a dashed line.
        limits: Ends of the axis; those of the numbers by default, the mark among them.
    """

    title: str
    label: str
    series: Mapping[str, np.ndarray]
    mark: float
    limits: tuple[float, float] | None = None


def spread_figure(panels: Sequence[Spread], mark: str, title: str = "") -> Figure:
    """Draw histograms side by side.

    Args:
        panels: The panels.
        mark: What the dashed lines are.
        title: What stands above all of them.

    Returns:
        The figure.

    Raises:
        MaxAffineError: When matplotlib is absent.
    """
    require("a figure")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * len(panels), HEIGHT + (0.3 if title else 0)), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw(ax, panel, mark)
    axes[0].set_ylabel("share of the inputs", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(labels), 2 * len(panels))
    figure.legend(handles, labels, fontsize=7, frameon=False, loc="outside lower center", ncols=columns)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def _draw(ax: Axes, panel: Spread, mark: str) -> None:
    finite = [values[np.isfinite(values)] for values in panel.series.values()]
    low, high = panel.limits or (
        min(panel.mark, *(float(values.min()) for values in finite if len(values))),
        max(panel.mark, *(float(values.max()) for values in finite if len(values))),
    )
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for color, (name, values) in zip(COLORS, panel.series.items(), strict=False):
        share = np.full(len(values), 1 / max(1, len(values)))
        clipped = np.clip(values, edges[0], edges[-1])
        ax.hist(clipped, edges.tolist(), weights=share, color=color, alpha=0.45, label=f"{name} (line: mean)")
        inside = values[np.isfinite(values)]
        if len(inside):
            ax.axvline(float(inside.mean()), color=color, linewidth=1.4)
    ax.axvline(panel.mark, color="black", linestyle="--", linewidth=1, label=mark)
    ax.set_title(panel.title, fontsize=9)
    ax.set_xlabel(panel.label, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
