"""The tables and the figure of the page, from the finished seeds alone: means over seeds, the range in brackets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from studies.page import table

Record = dict[str, Any]
WORDS = {"sphere": "distance alone", "noise": "distance alone, and noise", "ellipsoid": "distance and tide"}
COLORS = {"sphere": "#0072B2", "noise": "#7f8a94", "ellipsoid": "#D55E00"}


def all_tables(found: Sequence[Record]) -> dict[str, str]:
    """Every table by name."""
    return {"losses": _losses(found), "shells": _shells(found)}


def _losses(found: Sequence[Record]) -> str:
    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "R², crops": lambda one: one["crops"]["r2"],
        "R², shell averages": lambda one: one["averages"]["r2"],
        "loss, crops": lambda one: one["crops"]["loss"],
        "loss, shell averages": lambda one: one["averages"]["loss"],
    }
    return _table(found, columns, ".3f")


def _shells(found: Sequence[Record]) -> str:
    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "variance share": lambda one: one["shells"]["variance_share"],
        "exchanged": lambda one: one["shells"]["exchanged"],
        "loss ratio": ratio,
        "share": lambda one: one["shells"]["share"],
        "⟨A_rest, x⟩": lambda one: one["shells"]["rest"][0],
        "‖A_iso‖²/‖A‖²": lambda one: one["shells"]["norm_share"],
    }
    return _table(found, columns)


def ratio(one: dict[str, Any]) -> float:
    """By what the loss grows where a network is trained on shell averages instead of crops."""
    return one["averages"]["loss"] / one["crops"]["loss"]


def _table(found: Sequence[Record], columns: dict[str, Callable[[dict[str, Any]], float]], form: str = ".2f") -> str:
    rows = []
    for truth in WORDS if found else ():
        numbers = [[read(record["found"][truth]) for record in found] for read in columns.values()]
        cells = [f"{np.mean(items):{form}} ({min(items):{form}} to {max(items):{form}})" for items in numbers]
        rows.append([WORDS[truth], *cells])
    return table(["the answer goes by", *columns], rows)


def draw(found: Sequence[Record], path: Path) -> None:
    """One point for each seed and truth: the isotropic share inside the network, and what retraining says."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    ax = figure.subplots()
    for (truth, words), marker in zip(WORDS.items(), "o^s", strict=True):
        points = [record["found"][truth] for record in found]
        x, y = [one["shells"]["variance_share"] for one in points], [ratio(one) for one in points]
        ax.plot(x, y, marker, color=COLORS[truth], label=words, markersize=6, alpha=0.8)
    ax.axhline(1, color="0.5", linewidth=0.8)
    ax.set_yscale("log")
    ax.set_yticks([0.1, 0.2, 0.5, 1, 1.2], ["0.1", "0.2", "0.5", "1", "1.2"])
    ax.minorticks_off()
    ax.set_xlabel("variance share of the isotropic part, inside one network")
    ax.set_ylabel("loss on shell averages / loss on crops")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
