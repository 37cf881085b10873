"""The figure and the table of the page, from the finished trainings alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.page import table

from .measuring import EPOCHS, LABELS, RADIUS

COLORS = {"true": "#0072B2", "random": "#D55E00"}
STYLES = {"train": "-", "test": "--", "noise": ":", "same": "-", "different": "--", "near": "-", "away": ":"}
# As density, on segments of length one.
TWICE = ("crossed_near", "crossed_away")


def series(rows: Sequence[dict[str, Any]], labels: str, name: str) -> np.ndarray:
    """One measure, (seeds, epochs)."""
    seeds = sorted({row["seed"] for row in rows if row["labels"] == labels})
    by = {(row["labels"], row["seed"], row["epoch"]): row[name] for row in rows}
    return np.array([[by[labels, seed, epoch] for epoch in EPOCHS] for seed in seeds])


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Four panels over the epochs: accuracy, local complexity, regions between digits, density of regions."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flatten()
    contents = [
        ("accuracy", "accuracy", {"train": "train_accuracy", "test": "test_accuracy"}),
        (
            f"units changing within {RADIUS:g}",
            "local complexity",
            {name: f"complexity_{name}" for name in ("train", "test", "noise")},
        ),
        (
            "regions crossed per unit of length",
            "between two training digits of the same class or of different ones",
            {name: f"density_{name}" for name in ("same", "different")},
        ),
        (
            "regions crossed per unit of length",
            "on short segments near digits and away from them",
            {name: f"density_{name}" for name in ("near", "away")},
        ),
    ]
    for axes, (label, title, names) in zip(panels, contents, strict=True):
        _panel(axes, rows, names)
        axes.set_ylabel(label)
        axes.set_title(title, fontsize=10)
    for axes in panels[2:]:
        axes.set_xlabel("epoch")
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, rows: Sequence[dict[str, Any]], names: dict[str, str]) -> None:
    for labels in LABELS:
        for short, name in names.items():
            values = series(rows, labels, name)
            if not len(values):
                continue
            mean = values.mean(0)
            axes.plot(EPOCHS, mean, STYLES[short], color=COLORS[labels], label=f"{labels} labels, {short}")
            axes.fill_between(EPOCHS, values.min(0), values.max(0), color=COLORS[labels], alpha=0.12, linewidth=0)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, EPOCHS[-1])
    axes.set_xticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def measures(rows: Sequence[dict[str, Any]]) -> str:
    """First, lowest and last value of every measure, the mean over the seeds."""
    body = []
    for name in rows[0]:
        for labels in LABELS if name not in ("labels", "seed", "epoch", *TWICE) else ():
            values = series(rows, labels, name)
            if len(values):
                mean = values.mean(0)
                lowest = int(mean.argmin())
                cells = [f"{mean[0]:.3g}", f"{mean[lowest]:.3g} ({EPOCHS[lowest]})", f"{mean[-1]:.3g}"]
                body.append([name.replace("_", " "), labels, *cells])
    return table(["measure", "labels", "epoch 0", "lowest (epoch)", "last"], body, numbers=False)
