"""Rows of a table on a page: what each feature, by its name, adds to an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maxaffine._report.figures import stacked_bars_figure
from maxaffine._report.layout import short
from maxaffine._report.sections.answers import Answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Features named one by one; the others are added up.
SHOWN, SPOKEN = 12, 3


@dataclass(frozen=True)
class Feature:
    """One row of the table: a feature x, and for each output shown its weight A and what it adds, A x."""

    name: str
    value: float | None  # None of several features together
    weights: tuple[float | None, ...]
    shares: tuple[float, ...]


def features_of(answer: Answer, names: Sequence[str]) -> list[Feature]:
    """The features that add the most to any output shown, and all others together."""
    x, weights = answer.input, np.stack([split.template for split in answer.splits])
    shares = weights * x
    kept, rest = _ranked(np.abs(shares).max(0))
    rows = [Feature(names[i], float(x[i]), tuple(weights[:, i].tolist()), tuple(shares[:, i].tolist())) for i in kept]
    if rest:
        more = tuple(shares[:, rest].sum(1).tolist())
        rows.append(Feature(f"{len(rest)} others", None, (None,) * len(weights), more))
    return rows


def slopes_in_words(answer: Answer, rows: Sequence[Feature]) -> list[str]:
    """What a unit more of the features that add the most does to each output, in a sentence for each."""
    said = []
    for place, split in enumerate(answer.splits):
        known = [row for row in rows if row.weights[place]]
        largest = sorted(known, key=lambda row: -abs(row.shares[place]))[:SPOKEN]
        words = [
            f"{'rises' if (weight := row.weights[place] or 0.0) > 0 else 'falls'} by {short(abs(weight))} per unit of"
            f" {row.name}"
            for row in largest
        ]
        if words:
            said.append(f"{split.name} {', '.join(words)}.")
    return said


def features_figure(answer: Answer, rows: Sequence[Feature]) -> Figure:
    """Draw what the features add to the outputs shown; values have units, and so a scale, each of their own."""
    series = {split.name: [row.shares[place] for row in rows] for place, split in enumerate(answer.splits)}
    panels = [series] if answer.predicted else [{name: shares} for name, shares in series.items()]
    where = f"test input {answer.index}"
    titles = [where] if answer.predicted else [f"{name}, {where}" for name in series]
    return stacked_bars_figure([row.name for row in rows], panels, "what it adds, A x", titles)


def margin_figure(answer: Answer, names: Sequence[str]) -> Figure | None:
    """Draw what the features add to the margin over the runner-up, the largest first; None without one."""
    if (up := answer.runner_up) is None:
        return None
    kept, rest = _ranked(np.abs(up.shares))
    called = [names[i] for i in kept] + ([f"{len(rest)} others"] if rest else [])
    shares = up.shares[kept].tolist() + ([float(up.shares[rest].sum())] if rest else [])
    titles = [f"{up.winner} over {up.loser}"]
    return stacked_bars_figure(called, [{"margin": shares}], "what it adds to the margin", titles)


def _ranked(sizes: np.ndarray) -> tuple[list[int], list[int]]:
    """The numbers of the features to name, the largest first, and of all others."""
    order = np.argsort(-sizes, kind="stable").tolist()
    # A row for a single other one would say no less by its name.
    return (order, []) if len(order) <= SHOWN + 1 else (order[:SHOWN], order[SHOWN:])
