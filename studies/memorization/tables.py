"""The tables of the page, from the finished runs alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from studies.page import table

Record = dict[str, Any]

# What could tell a network trained on random labels from one trained on true ones.
MEASURES: Mapping[str, tuple[str, Callable[[Mapping[str, float]], float]]] = {
    "score": ("score: 1 − test / training alignment", lambda o: o["score"]),
    "own_gap": ("cos(x, A_y): training − test", lambda o: o["train_own"] - o["test_own"]),
    "alignment": ("alignment, training data alone", lambda o: o["train_alignment"]),
    "own": ("cos(x, A_y), training data alone", lambda o: o["train_own"]),
    "others": ("mean cos(x, A_c), training data alone", lambda o: o["train_others"]),
    "ratio": ("ratio of lengths, training data alone", lambda o: o["train_ratio"]),
    "fit_gap": ("accuracy: training − test", lambda o: o["train_fit"] - o["test_fit"]),
}
COLUMNS = (
    "train_fit", "test_fit", "train_own", "test_own", "train_others", "train_ratio", "train_alignment",
    "test_alignment", "score",
)  # fmt: skip
HEADS = (
    "accuracy, training", "accuracy, test", "cos(x, A_y), training", "cos(x, A_y), test", "cos(x, A_c), training",
    "ratio, training", "alignment, training", "alignment, test", "score",
)  # fmt: skip


def all_tables(found: Sequence[Record]) -> dict[str, str]:
    """Every table by name."""
    return {"separation": separation(found), "decay": decay(found), "cells": cells(found)}


def treatment(run: Mapping[str, Any]) -> str:
    """What was done to a network, in words."""
    labels = {0.0: "true labels", 0.5: "half random", 1.0: "random labels"}[run["random"]]
    return f"{labels}, weight decay" if run["decay"] else labels


def cells(found: Sequence[Record]) -> str:
    """Mean and standard deviation over the seeds, for each data set, size and treatment."""
    rows = []
    for data, size, name in _distinct(found):
        outcomes = [r["outcomes"] for r in found if _cell(r["run"]) == (data, size, name)]
        numbers = [_spread([o[column] for o in outcomes]) for column in COLUMNS]
        rows.append([f"{data}, {size}, {name}", str(len(outcomes)), *numbers])
    return table(["data, training images, treatment", "seeds", *HEADS], rows)


def separation(found: Sequence[Record]) -> str:
    """How well each measure tells random from true labels, over all sizes, decays and seeds of a data set."""
    rows = []
    for data in sorted({r["run"]["data"] for r in found}):
        for title, measure in MEASURES.values():
            groups = [
                [measure(r["outcomes"]) for r in found if r["run"]["data"] == data and r["run"]["random"] == share]
                for share in (0.0, 0.5, 1.0)
            ]
            if all(groups):
                ranges = [f"{min(g):.3f} to {max(g):.3f}" for g in groups]
                area = areas(groups[0], groups[2])
                rows.append([f"{data}: {title}", *ranges, f"{area:.2f}", _verdict(groups[0], groups[2])])
    return table(["measure", "true labels", "half random", "random labels", "AUC", "random against true"], rows)


def areas(true: Sequence[float], random: Sequence[float]) -> float:
    """The share of pairs of a random-label and a true-label network where the first has the larger value."""
    return fmean(float(r > t) + 0.5 * float(r == t) for r in random for t in true)


def decay(found: Sequence[Record]) -> str:
    """What weight decay does to the score: the same seed with and without, over the sizes."""
    rows = []
    for data in sorted({r["run"]["data"] for r in found}):
        for random in (0.0, 1.0):
            pairs = _pairs(found, data, random)
            if len(pairs) > 1:
                name = "true labels" if random == 0 else "random labels"
                numbers = [_spread([column[place] for column in pairs]) for place in range(3)]
                rows.append([f"{data}, {name}", str(len(pairs)), *numbers])
    differences = [f"{name}: with decay − without" for name in ("score", "alignment, training", "accuracy, test")]
    return table(["data, labels", "pairs", *differences], rows)


def _pairs(found: Sequence[Record], data: str, random: float) -> list[tuple[float, float, float]]:
    chosen = [r for r in found if r["run"]["data"] == data and r["run"]["random"] == random]
    by_key = {(r["run"]["size"], r["run"]["seed"], bool(r["run"]["decay"])): r["outcomes"] for r in chosen}
    names = ("score", "train_alignment", "test_fit")
    pairs = []
    for (size, seed, decayed), outcomes in sorted(by_key.items()):
        without = by_key.get((size, seed, False))
        if decayed and without is not None:
            score, alignment, fit = (outcomes[name] - without[name] for name in names)
            pairs.append((score, alignment, fit))
    return pairs


def _verdict(true: Sequence[float], random: Sequence[float]) -> str:
    if min(random) > max(true):
        return f"apart, above by {min(random) - max(true):.3f}"
    if max(random) < min(true):
        return f"apart, below by {min(true) - max(random):.3f}"
    return "they overlap"


def _cell(run: Mapping[str, Any]) -> tuple[str, int, str]:
    return run["data"], run["size"], treatment(run)


def _distinct(found: Sequence[Record]) -> list[tuple[str, int, str]]:
    """The cells, true labels first."""
    order = ("true", "half", "random")
    return sorted({_cell(r["run"]) for r in found}, key=lambda cell: (*cell[:2], order.index(cell[2].split()[0]), cell))


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}".replace("-", "−")
