"""The figures of the page, from the finished runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .analysis import BASELINE, OUTCOMES, Comparison, Outcome, Results
from .grid import Cell, Form
from .tables import by_classes, cell_name

# Okabe and Ito's colors, told apart by color-blind readers too.
BETTER, WORSE, OPEN = "#009E73", "#D55E00", "#7F7F7F"
LINES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
SHOWN = ("test_accuracy", "gap", "test_ece", "noise_0.1_accuracy", "retrieval_10")


def draw(results: Results, folder: Path) -> None:
    """Write the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [item for item in results.chosen() if item.form.on == "classifier" and item.form.compare == "products"]
    if rows:
        _differences(rows, folder / "differences.png")
        _curves(results, [item.cell for item in rows], folder / "weights.png")
        _angles(results, [item.cell for item in rows], folder / "angles.png")


def _differences(chosen: Sequence[Comparison], path: Path) -> None:
    """One panel per outcome, one line per cell, mean and interval."""
    outcomes = [outcome for outcome in OUTCOMES if outcome.name in SHOWN]
    size = (3 + 2.4 * len(outcomes), 2 + 0.28 * len(chosen))
    figure, axes = plt.subplots(1, len(outcomes), sharey=True, figsize=size, squeeze=False, layout="constrained")
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        _panel(axis, chosen, outcome)
    axes[0, 0].set_yticks(range(len(chosen)), [f"{cell_name(item.cell)}, λ {item.form.weight:g}" for item in chosen])
    axes[0, 0].invert_yaxis()
    figure.suptitle(
        "With the penalty on the classifier less without; λ by validation; 95% intervals over 5 paired seeds"
    )
    _save(figure, path)


def _panel(axis: Axes, chosen: Sequence[Comparison], outcome: Outcome) -> None:
    for place, item in enumerate(chosen):
        found = item.differences[outcome.name]
        decided = abs(found.mean) > found.half_width
        color = (BETTER if found.mean * outcome.better > 0 else WORSE) if decided else OPEN
        marker = ("^" if found.mean > 0 else "v") if decided else "o"
        axis.errorbar(found.mean, place, xerr=found.half_width, fmt=marker, color=color, capsize=2, markersize=5)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_title(f"{outcome.label}\n({'higher' if outcome.better > 0 else 'lower'} is better)", fontsize=10)
    axis.set_xlabel(f"difference ({outcome.unit})")
    axis.grid(axis="y", alpha=0.3)


def _curves(results: Results, cells: Sequence[Cell], path: Path) -> None:
    """Accuracy over the weight; tasks of 100 classes have a panel of their own, with a scale of their own."""
    panels = {classes: chosen for classes, chosen in by_classes(cells).items() if chosen}
    figure, axes = plt.subplots(1, len(panels), figsize=(6.5 * len(panels), 5), squeeze=False, layout="constrained")
    for axis, (classes, chosen) in zip(axes[0], panels.items(), strict=True):
        for number, cell in enumerate(chosen):
            found = [item for item in results.comparisons() if item.cell == cell and _is_rows(item.form)]
            found.sort(key=lambda item: item.form.weight)
            means = [item.differences["test_accuracy"].mean for item in found]
            axis.plot([item.form.weight for item in found], means, **_style(number), label=cell_name(cell))
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_xlabel("weight λ of the penalty on the classifier")
        axis.set_ylabel("test accuracy less that without (points)")
        axis.set_title(f"{classes} classes")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    _save(figure, path)


def _angles(results: Results, cells: Sequence[Cell], path: Path) -> None:
    """Root mean squared cosines of rows and of templates over the weight."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 5), sharex=True)
    for axis, name, title in zip(axes, ("row_cosine", "template_cosine"), ("rows of W", "templates A[x]"), strict=True):
        for number, cell in enumerate(cells):
            forms = sorted((f for c, f in results.by_form if c == cell and _is_rows(f)), key=lambda form: form.weight)
            forms = [form for form in [BASELINE, *forms] if results.complete(cell, form)]
            cosines = [results.mean(cell, form, name) ** 0.5 for form in forms]
            axis.plot([form.weight for form in forms], cosines, **_style(number), label=cell_name(cell))
        axis.set_xscale("symlog", linthresh=1e-3)
        axis.set_xlabel("weight λ of the penalty on the classifier (0: none)")
        axis.set_title(title)
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("root mean squared cosine of two classes")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def _style(number: int) -> dict[str, Any]:
    """A line that is told apart by its color, and by its marker and dashes too."""
    row = number // len(LINES)
    return {"color": LINES[number % len(LINES)], "marker": "osD"[row % 3], "linestyle": ("-", "--", ":")[row % 3]}


def _is_rows(form: Form) -> bool:
    return form.on == "classifier" and form.compare == "products"


def _save(figure: Figure, path: Path) -> None:
    # Without the version of matplotlib in the file, equal figures are equal files.
    figure.savefig(path, dpi=100, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
