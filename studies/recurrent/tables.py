"""The tables and the figure of the page, from the finished trainings alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student

from studies.page import table

from .tasks import TASKS
from .training import COUNTED, PLACES, SEEDS, TREATMENTS

Record = dict[str, Any]
GUESSED = 1 / 6  # squared error of answering the adding task with the mean: a network that diverged is no worse
DRAWN = 10.0  # effects up to this are in the figure: a network that diverged has any
PAIRS = {
    "noise 0.1": ("noise 0.1", "none"),
    "noise 0.3": ("noise 0.3", "none"),
    "penalty 0.1": ("penalty 0.1", "none"),
    "noise over penalty, 0.1": ("noise 0.1", "penalty 0.1"),
}


def all_tables(found: Sequence[Record]) -> dict[str, str]:
    """Every table by name."""
    return {"gains": gains(found), "fit": fit(found), "effects": effects(found), "regions": regions(found)}


def outcomes(found: Sequence[Record], task: str, treatment: str, name: str) -> np.ndarray:
    """One outcome of each seed that is finished, in their order; not a number where one is not."""
    by = {
        r["run"]["seed"]: r["outcomes"] for r in found if (r["run"]["task"], r["run"]["treatment"]) == (task, treatment)
    }
    return np.array([by[seed][name] if seed in by else np.nan for seed in SEEDS])


def interval(differences: np.ndarray) -> str:
    """The mean of paired differences with its 95% interval (Student's), bold where zero is outside."""
    there = differences[~np.isnan(differences)]
    if len(there) < 2:
        return "not run"
    mean, half = there.mean(), student.ppf(0.975, len(there) - 1) * there.std(ddof=1) / len(there) ** 0.5
    text = f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"
    return f"**{text}**" if abs(mean) > half else text


def scores(found: Sequence[Record], task: str, treatment: str) -> np.ndarray:
    """What is compared of a task: the accuracy in percent, or the error in thousandths, at most that of guessing."""
    if TASKS[task].outputs > 1:
        return 100 * outcomes(found, task, treatment, "test_accuracy")
    return 1000 * np.minimum(outcomes(found, task, treatment, "test_loss"), GUESSED)


def gains(found: Sequence[Record]) -> str:
    """What each treatment changes on the test data, against none, over the same seeds."""
    rows = []
    for task in _there(found):
        unit = "squared error, thousandths" if TASKS[task].outputs == 1 else "accuracy, %"
        base = scores(found, task, "none").mean()
        pairs = (interval(scores(found, task, a) - scores(found, task, b)) for a, b in PAIRS.values())
        rows.append([f"{TASKS[task].title} ({unit})", f"{base:.1f}", *pairs])
    return table(["task", "none", *(f"{name}, change" for name in PAIRS)], rows)


def fit(found: Sequence[Record]) -> str:
    """The loss on training and test data, medians over the seeds: is there anything to regularize?"""
    rows = []
    for task in _there(found):
        cells = []
        for treatment in TREATMENTS:
            pair = [np.median(outcomes(found, task, treatment, f"{part}_loss")) for part in ("train", "test")]
            cells.append("not run" if np.isnan(pair).any() else f"{pair[0]:.3g} / {pair[1]:.3g}")
        rows.append([TASKS[task].title, *cells])
    return table(["task: loss, training / test", *TREATMENTS], rows)


def effects(found: Sequence[Record]) -> str:
    """What noise of 0.1 adds to the loss of trained networks by formula, held map and network: medians over seeds."""
    rows = []
    for task in _there(found):
        for treatment in TREATMENTS:
            take = _median(found, task, treatment)
            if np.isnan(take("network")):
                continue
            held, crossing = (np.abs(outcomes(found, task, treatment, name)) for name in ("held", "crossing"))
            shares = crossing / (held + crossing)
            numbers = [f"{take(name):.3g}" for name in ("second_order", "held", "network", "crossing")]
            low, high = np.nanmin(shares), np.nanmax(shares)
            rows.append([f"{TASKS[task].title}, {treatment}", *numbers, f"{low:.0%} to {high:.0%}"])
    return table(["task, treatment", "second order", "held map", "network", "crossings", "part of crossings"], rows)


def regions(found: Sequence[Record]) -> str:
    """How many regions test sequences occupy by the codes of the steps so far, before and after training."""
    rows = []
    for task in _there(found):
        for when, word in (("begin", "before"), ("end", "after")):
            counts = [outcomes(found, task, "none", f"{when}_regions_{place:g}").mean() for place in PLACES]
            rows.append([f"{TASKS[task].title}, {word} training", *(f"{count:.0f}" for count in counts)])
    return table([f"regions of at most {COUNTED} sequences, after", *(_place(place) for place in PLACES)], rows)


def draw(found: Sequence[Record], path: Path) -> None:
    """Left the partition refined through time; right what noise adds against what the formula says."""
    figure = Figure(figsize=(9.2, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, task in enumerate(_there(found)):
        for when, style in (("begin", ":"), ("end", "-")):
            counts = [outcomes(found, task, "none", f"{when}_regions_{place:g}").mean() for place in PLACES]
            label = TASKS[task].title if style == "-" else None
            left.plot(PLACES, counts, style, color=f"C{number}", marker=".", label=label)
        for treatment, marker in zip(TREATMENTS, "osD^", strict=True):
            x, y = (outcomes(found, task, treatment, name) for name in ("second_order", "network"))
            near = np.abs(x) + np.abs(y) < DRAWN
            right.plot(x[near], y[near], marker, color=f"C{number}", markersize=4, alpha=0.8)
    for treatment, marker in zip(TREATMENTS, "osD^", strict=True):
        right.plot([], [], marker, color="0.4", markersize=4, label=treatment)
    left.set(xlabel="way through the sequence", ylabel="regions occupied", yscale="log")
    left.set_title("dotted: before training; solid: after", fontsize=9)
    right.set_xscale("symlog", linthresh=1e-3)
    right.set_yscale("symlog", linthresh=1e-3)
    right.plot([0, DRAWN], [0, DRAWN], color="0.5", linewidth=0.8, zorder=0)
    right.set(xlabel="second order", ylabel="network", xlim=(0, DRAWN))
    right.set_title("what noise of 0.1 adds to the loss", fontsize=9)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _there(found: Sequence[Record]) -> list[str]:
    """The tasks of which untreated networks are finished."""
    return [task for task in TASKS if any((r["run"]["task"], r["run"]["treatment"]) == (task, "none") for r in found)]


def _median(found: Sequence[Record], task: str, treatment: str) -> Callable[[str], float]:
    return lambda name: float(np.median(outcomes(found, task, treatment, name)))


def _place(place: float) -> str:
    return {0.0: "the first step", 1.0: "all"}.get(place, f"{place:.0%}")
