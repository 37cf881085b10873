"""The figures of the page, from the results alone."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from studies.distance.pictures import CHANGES
from studies.distance.tables import ARCHITECTURES, DISTANCES, FEW, Results, runs

# Okabe and Ito's colors, told apart by color-blind readers too; and a marker each.
STYLES = {"code": ("#0072B2", "o"), "l2": ("#D55E00", "s"), "cosine": ("#009E73", "^")}
PIXELS, PERCEPTUAL, OWN = "#7f7f7f", "#CC79A7", "#000000"


def draw(results: Results, folder: Path) -> None:
    """Write the figures."""
    _depth(results, folder / "depth.png")
    _sensitivity(results, folder / "sensitivity.png")


def _depth(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(1, len(ARCHITECTURES), figsize=(9, 3.8), sharey=True, width_ratios=(5, 3))
    perceptual = 100 * results["photographs"]["after"]["perceptual"]
    for axis, (name, title) in zip(axes, ARCHITECTURES.items(), strict=True):
        found = runs(results, name)
        operators = found[0]["operators"]
        for kind, (color, marker) in STYLES.items():
            numbers = [[100 * one["after"][FEW][f"{kind}|{operator}"] for one in found] for operator in operators]
            middle, spread = [mean(n) for n in numbers], [stdev(n) for n in numbers]
            style = {"color": color, "marker": marker, "capsize": 3}
            axis.errorbar(range(len(operators)), middle, yerr=spread, label=DISTANCES[kind], **style)
            before = [100 * mean(one["before"][f"{kind}|{operator}"] for one in found) for operator in operators]
            axis.plot(range(len(operators)), before, color=color, linestyle=":", linewidth=1)
        lines = (
            (100 * found[0]["after"][FEW]["pixels"], PIXELS, "--", "pixels, L2"),
            (perceptual, PERCEPTUAL, "-.", "EfficientNet-Lite0, perceptual"),
            (100 * mean(one["query_accuracy"] for one in found), OWN, "-", "the network's own answers"),
        )
        for height, color, line, label in lines:
            axis.axhline(height, color=color, linestyle=line, linewidth=1, label=label)
        axis.set_xticks(range(len(operators)), [one["title"].replace(" ", "\n") for one in operators.values()])
        axis.set_title(title)
        axis.set_xlabel("operator, input to output")
    axes[0].set_ylabel("5-nearest-neighbor accuracy, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _sensitivity(results: Results, path: Path) -> None:
    found = runs(results, "cnn")
    operators = found[0]["operators"]
    figure, axes = plt.subplots(1, len(CHANGES), figsize=(11, 3.4), sharey=True)
    colors = plt.colormaps["viridis"]
    for axis, (kind, (unit, strengths)) in zip(axes, CHANGES.items(), strict=True):
        for place, (name, operator) in enumerate(operators.items()):
            moved = [mean(one["sensitivity"][kind][f"code|{name}"]["moved"][i] for one in found) for i in range(4)]
            style = {"color": colors(0.9 * place / (len(operators) - 1)), "marker": "osv^D"[place], "markersize": 4}
            axis.plot(strengths, moved, label=f"code at {operator['title']}", **style)
        moved = found[0]["sensitivity"][kind]["pixels"]["moved"]
        axis.plot(strengths, moved, color=PIXELS, linestyle="--", label="pixels, L2")
        _finish(axis, kind, unit)
    axes[0].set_ylabel("distance moved / distance\nto another image of the class")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _finish(axis: Axes, kind: str, unit: str) -> None:
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_ylim(0, None)
    axis.set_title(kind)
    axis.set_xlabel(unit)
