"""The two figures of the page, from the finished cells and the garments that they show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maxaffine.data import load

from .networks import TITLES
from .tables import Record, both, networks

# Okabe and Ito's colors, told apart by color-blind readers too; the marker says the same.
LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))
COMPARED = ("gradient", "length", "integrated", "attnlrp", "silu", "random")
SHORT = {
    "frozen": "frozen map",
    "silu": "frozen map,\nSiLU carries",
    "gradient": "gradient × input\n(tangent)",
    "length": "length of\nthe gradient",
    "integrated": "integrated\ngradients",
    "attnlrp": "AttnLRP",
    "random": "random order",
}
DRAWN = ("frozen", "attnlrp", "integrated", "gradient", "length")


def draw(found: Sequence[Record], folder: Path) -> None:
    """Write the figures of what is finished."""
    folder.mkdir(parents=True, exist_ok=True)
    if by := networks(found):
        _draw_areas(by, folder / "areas.png")
    if shown := {name: records for name, records in by.items() if records[0].get("shown")}:
        _draw_garments(shown, folder / "garments.png")


def _draw_areas(by: dict[str, list[Record]], path: Path) -> None:
    figure = Figure(figsize=(3.0 * len(by) + 0.8, 3.6), layout="constrained")
    axes = figure.subplots(1, len(by), squeeze=False, sharey=True)[0]
    for ax, (name, records) in zip(axes, by.items(), strict=True):
        there = records[0]["areas"]
        for shift, ((baseline, orders), (color, marker)) in enumerate(zip(there.items(), LOOKS, strict=True)):
            places = [place for place, method in enumerate(COMPARED) if method in orders]
            spans = [both(records, COMPARED[place], baseline) for place in places]
            means = np.array([span.mean for span in spans])
            ends = np.array([[span.mean - span.low, span.high - span.mean] for span in spans]).T
            heights = [place + 0.22 * (shift - 1) for place in places]
            ax.errorbar(means, heights, xerr=ends, fmt=marker, color=color, markersize=4, elinewidth=1, label=baseline)
        ax.axvline(0, color="gray", linewidth=0.8)
        ax.set_title(TITLES[name], fontsize=9)
        ax.tick_params(labelsize=7)
        ax.legend(fontsize=7, frameon=False, loc="best", title="absent parts", title_fontsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(COMPARED)), [SHORT[method] for method in COMPARED])
    axes[0].invert_yaxis()
    figure.supxlabel(
        "insertion − deletion, less that of the frozen map (left: worse than it; right: better)", fontsize=8
    )
    figure.savefig(path, dpi=120)


def _draw_garments(shown: dict[str, list[Record]], path: Path) -> None:
    images = load("fashion-mnist").test.inputs
    rows = [(name, place, record) for name, records in shown.items() for place in range(2) for record in records[:2]]
    figure = Figure(figsize=(1.1 * (1 + len(DRAWN)), 1.07 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), 1 + len(DRAWN), squeeze=False)
    for line, (name, place, record) in zip(axes, rows, strict=True):
        line[0].imshow(1 - images[record["shown"]["places"][place], 0].numpy(), cmap="gray", vmin=0, vmax=1)
        line[0].set_ylabel(f"{TITLES[name]}\nseed {record['seed']}", fontsize=7)
        for ax, method in zip(line[1:], DRAWN, strict=True):
            _draw_parts(ax, record["shown"].get(method), place)
    for ax, method in zip(axes[0], ("image", *DRAWN), strict=True):
        ax.set_title(SHORT.get(method, method), fontsize=8)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    figure.savefig(path, dpi=110)


def _draw_parts(ax: Axes, said: Sequence[Sequence[float]] | None, place: int) -> None:
    if said is None:
        ax.text(0.5, 0.5, "as the\nfrozen map", ha="center", va="center", fontsize=7, transform=ax.transAxes)
        return
    parts = np.array(said[place])
    side = round(len(parts) ** 0.5)
    limit = np.abs(parts).max() or 1.0
    ax.imshow(parts.reshape(side, side), cmap="RdBu_r", vmin=-limit, vmax=limit)
