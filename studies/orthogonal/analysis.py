"""Paired differences with confidence intervals, and the choice of lambda by validation data alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t as student

from .grid import RECIPES, Cell, Form, forms_to_choose_from

LEVEL = 0.95
# Records have five digits; one image of 5,000 in one of five trainings makes a difference of four times this.
ROUNDING = 1e-5
BASELINE = Form("none")


@dataclass(frozen=True)
class Outcome:
    """One thing that a training is judged by.

    Args:
        name: Its name in the records, or of what `derived` adds to them.
        label: What tables and figures call it.
        unit: Its unit.
        scale: Factor from the records to that unit.
        better: +1 where more is better, -1 where less is.
    """

    name: str
    label: str
    unit: str
    scale: float
    better: int


OUTCOMES = (
    Outcome("test_accuracy", "accuracy", "points", 100, 1),
    Outcome("gap", "overfitting gap", "points", 100, -1),
    Outcome("test_loss", "cross-entropy", "nats", 1, -1),
    Outcome("test_ece", "calibration error", "points", 100, -1),
    Outcome("noise_0.1_accuracy", "accuracy, noise 0.1", "points", 100, 1),
    Outcome("noise_0.3_accuracy", "accuracy, noise 0.3", "points", 100, 1),
    Outcome("retrieval_1", "retrieval at 1", "points", 100, 1),
    Outcome("retrieval_10", "retrieval at 10", "points", 100, 1),
)


@dataclass(frozen=True)
class Difference:
    """An outcome with a form less the outcome without, the same seeds on both sides, in the outcome's unit.

    Args:
        baseline: Mean outcome without.
        mean: Mean difference.
        half_width: Of the t confidence interval around it.
        p: Two-sided p-value of the paired t test.
    """

    baseline: float
    mean: float
    half_width: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """A form against none in one cell.

    Args:
        cell: Where.
        form: Which.
        differences: By the name of the outcome.
    """

    cell: Cell
    form: Form
    differences: Mapping[str, Difference]


class Results:
    """The outcomes of the finished runs of this recipe.

    Args:
        records: As `store.records` gives them.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]]) -> None:
        self.by_form: dict[tuple[Cell, Form], dict[int, dict[str, float]]] = defaultdict(dict)
        for record in records:
            run = dict(record["run"])
            if run["recipe"] not in RECIPES:
                continue
            seed = run.pop("seed")
            form = Form(run.pop("on"), run.pop("compare"), run.pop("weight"))
            self.by_form[Cell(**run), form][seed] = derived(record["outcomes"])

    def complete(self, cell: Cell, form: Form) -> bool:
        """Whether all seeds of a form in a cell are finished."""
        return set(self.by_form.get((cell, form), ())) >= set(cell.seeds)

    def values(self, cell: Cell, form: Form, outcome: str) -> list[float]:
        """One outcome, seed by seed."""
        runs = self.by_form[cell, form]
        return [runs[seed][outcome] for seed in cell.seeds]

    def mean(self, cell: Cell, form: Form, outcome: str) -> float:
        """One outcome, averaged over the seeds."""
        return math.fsum(self.values(cell, form, outcome)) / len(cell.seeds)

    def compare(self, cell: Cell, form: Form) -> Comparison:
        """A form against none, in every outcome."""
        return Comparison(
            cell,
            form,
            {
                outcome.name: paired(
                    [outcome.scale * value for value in self.values(cell, BASELINE, outcome.name)],
                    [outcome.scale * value for value in self.values(cell, form, outcome.name)],
                )
                for outcome in OUTCOMES
            },
        )

    def comparisons(self) -> list[Comparison]:
        """Every complete form against a complete baseline, cell by cell in the order of completion."""
        pairs = [(cell, form) for cell, form in self.by_form if form != BASELINE]
        return [self.compare(*pair) for pair in pairs if self.complete(*pair) and self.complete(pair[0], BASELINE)]

    def chosen(self) -> list[Comparison]:
        """For every cell and kind of penalty whose weights are finished, the weight that validation data choose.

        It is the weight with the highest validation accuracy, averaged over the seeds; of those that are equal, but
        for the digits that the records leave out, the smallest. The
        baseline is not among the candidates, so that the penalty is compared even where validation would leave it out.
        """
        kinds: dict[tuple[Cell, str, str], list[Form]] = defaultdict(list)
        for cell, form in self.by_form:
            if form != BASELINE and self.complete(cell, form) and self.complete(cell, BASELINE):
                kinds[cell, form.on, form.compare].append(form)
        best = []
        for (cell, on, compare), forms in kinds.items():
            if set(forms) >= set(forms_to_choose_from(cell, on, compare)):
                found = {form: self.mean(cell, form, "validation_accuracy") for form in forms}
                highest = [form for form, mean in found.items() if mean > max(found.values()) - ROUNDING]
                best.append(self.compare(cell, min(highest, key=lambda form: form.weight)))
        return best


def derived(outcomes: Mapping[str, float]) -> dict[str, float]:
    """Add the overfitting gap, training less test accuracy."""
    return {**outcomes, "gap": outcomes["train_accuracy"] - outcomes["test_accuracy"]}


def paired(without: Sequence[float], with_: Sequence[float]) -> Difference:
    """Mean of the paired differences with its t confidence interval.

    mean +- t_{n-1}(0.975) s / sqrt(n)
    """
    count = len(without)
    differences = [b - a for a, b in zip(without, with_, strict=True)]
    mean = math.fsum(differences) / count
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (count - 1) / count)
    half_width = float(student.ppf((1 + LEVEL) / 2, count - 1)) * error
    ratio = abs(mean) / error if error else math.inf if mean else 0.0
    return Difference(math.fsum(without) / count, mean, half_width, float(2 * student.sf(ratio, count - 1)))


def holm(p_values: Sequence[float], level: float = 1 - LEVEL) -> list[bool]:
    """Which of several tests hold when the chance of any false one is kept below a level.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6, 1979.
    """
    held = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] > level / (len(p_values) - rank):
            break
        held[place] = True
    return held
