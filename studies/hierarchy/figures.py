"""The figures of the page, from the stored runs; the trees from one small training each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .runs import DATA, NETWORKS, Run, trees

# Okabe and Ito's colors, told apart by color-blind readers too.
UNTRAINED, TRAINED = "#D55E00", "#0072B2"
CHANCE = 0.1


def draw(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the figures that show every run."""
    _panels(records, folder / "purity.png", "pair purity of 8 units", _purity)
    _panels(records, folder / "drift.png", "units with another code\nthan after the last epoch", _drift)


def draw_trees(folder: Path) -> None:
    """Draw the regions of the narrow networks before and after training, where the pictures are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in DATA:
        paths = {moment: folder / f"tree-{data}-{moment}.png" for moment in ("untrained", "trained")}
        if all(path.exists() for path in paths.values()):
            continue
        names, found = trees(Run(data, "narrow MLP", 0))
        for path, hierarchy in zip(paths.values(), found, strict=True):
            _save(hierarchy.plot(class_names=names).figure, path)


def _panels(records: Sequence[dict[str, Any]], path: Path, label: str, fill: Any) -> None:
    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(len(DATA), len(NETWORKS), squeeze=False)
    for row, data in zip(grid, DATA, strict=True):
        for axes, network in zip(row, NETWORKS, strict=True):
            chosen = [each for each in records if (each["run"]["data"], each["run"]["network"]) == (data, network)]
            fill(axes, chosen)
            axes.set_title(f"{data}, {network}", fontsize=10)
            axes.grid(alpha=0.3)
        row[0].set_ylabel(label)
    _save(figure, path)


def _purity(axes: Axes, records: Sequence[dict[str, Any]]) -> None:
    for moment, color, style in (("untrained", UNTRAINED, "o--"), ("trained", TRAINED, "s-")):
        for number, record in enumerate(records):
            operators = record[moment]
            values = [float("nan") if (p := each["few"]["pair_purity"]) is None else p for each in operators.values()]
            axes.plot(
                range(1, len(values) + 1), values, style, color=color, ms=4, lw=1, label=None if number else moment
            )
            axes.set_xticks(range(1, len(values) + 1), [_title(each) for each in operators.values()], fontsize=8)
    axes.axhline(CHANCE, color="black", lw=0.8, ls=":")
    axes.set_ylim(0, 1)
    axes.set_xlabel("operator, from the input on")
    if records:
        axes.legend(fontsize=8, loc="upper left")


def _drift(axes: Axes, records: Sequence[dict[str, Any]]) -> None:
    operators = list(records[0]["drift"]) if records else []
    for place, name in enumerate(operators):
        # From dark at the input to bright at the output: the order is what matters here.
        color = colormaps["viridis"](0.9 * place / max(1, len(operators) - 1))
        for number, record in enumerate(records):
            to_last = [row[-1] for row in record["drift"][name]]
            label = None if number else f"{place + 1}: {_title(record['trained'][name])}"
            axes.plot(range(len(to_last) - 1), to_last[:-1], color=color, lw=1, label=label)
    axes.axhline(0.05, color="black", lw=0.8, ls=":")
    axes.set_yscale("log")
    axes.set_ylim(3e-4, 1)
    axes.set_xlabel("epoch (0: before the training)")
    if records:
        axes.legend(fontsize=7, loc="lower left")


def _title(operator: dict[str, Any]) -> str:
    return "ReLU" if operator["pieces"] == 2 else "max-pool"


def _save(figure: Any, path: Path) -> None:
    # Without the version of matplotlib in the file, equal figures are equal files.
    figure.savefig(path, dpi=100, metadata={"Software": None})
