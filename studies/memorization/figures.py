"""The figure of the page, from the finished runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from .tables import Record, treatment

# Okabe and Ito's colors, told apart by color-blind readers too; the marker says the same.
LOOKS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "true labels": ("#0072B2", "o", "-"),
        "true labels, weight decay": ("#56B4E9", "s", "--"),
        "half random": ("#009E73", "D", "-"),
        "random labels": ("#D55E00", "^", "-"),
        "random labels, weight decay": ("#E69F00", "v", "--"),
    }
)
PANELS = (
    ("score", "score: 1 − test / training alignment"),
    ("train_alignment", "alignment, training data"),
    ("test_alignment", "alignment, test data"),
    ("train_own", "cos(x, A_y), training data"),
)


def draw(found: Sequence[Record], folder: Path) -> None:
    """Write the figure."""
    sets = sorted({r["run"]["data"] for r in found})
    if not sets:
        return
    figure = Figure(figsize=(3.1 * len(PANELS), 0.5 + 2.6 * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), len(PANELS), squeeze=False)
    for row, data in zip(axes, sets, strict=True):
        for ax, (name, title) in zip(row, PANELS, strict=True):
            _panel(ax, [r for r in found if r["run"]["data"] == data], name)
            ax.set_title(f"{data}: {title}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("training images", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(LOOKS), fontsize=8, frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "memorization.png", dpi=110)


def _panel(ax: Axes, found: Sequence[Record], name: str) -> None:
    for words, (color, marker, line) in LOOKS.items():
        points = [(r["run"]["size"], r["outcomes"][name]) for r in found if treatment(r["run"]) == words]
        if not points:
            continue
        sizes = sorted({size for size, _ in points})
        means = [fmean(value for at, value in points if at == size) for size in sizes]
        ax.plot(sizes, means, line, color=color, linewidth=1.2)
        ax.plot(*zip(*points, strict=True), marker, color=color, markersize=4, alpha=0.8, label=words)
    ax.axhline(0, color="gray", linewidth=0.6)
    ax.set_xscale("log")
    ax.set_xticks(sorted({r["run"]["size"] for r in found}))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=7)
