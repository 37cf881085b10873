"""How well a network that gives values predicts the targets: R2 and errors on both parts, in the targets' own units."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import hypot, isfinite, nan, sqrt

import numpy as np
import torch

from maxaffine._models import explained
from maxaffine._progress import progress_bar
from maxaffine._report.facts import Choices, Hint, LeftOut
from maxaffine._report.sections.answers import choose_inputs
from maxaffine._report.subject import Subject, as_array, spread_evenly

# What R2 loses from training to test inputs, and how far the worst error is from the usual one, before it is told.
LOST, FAR = 0.1, 3.0


@dataclass(frozen=True)
class Measure:
    """How well one output is predicted on one part of the data."""

    name: str
    part: str
    inputs: int
    r2: float  # NaN where the target is constant
    rmse: float
    deviation: float  # standard deviation of the target, the RMSE of its mean
    uncertainty: float  # standard error of R2, from how the squared errors differ from input to input


@dataclass(frozen=True, eq=False)
class Fit:
    """How well the targets are predicted."""

    names: tuple[str, ...]  # of the outputs
    measures: tuple[Measure, ...]  # output by output, first on training, then on test inputs
    # (N, K) of the inputs asked, by part.
    targets: Mapping[str, np.ndarray]
    values: Mapping[str, np.ndarray]
    explained: Mapping[int, tuple[float, ...]]  # targets of the test inputs explained, by their numbers
    worst: tuple[int, ...]  # those of them that are the worst predicted of all asked, the worst first
    excess: float  # the error of the worst, relative to the root of the mean squared error

    @property
    def tests(self) -> tuple[Measure, ...]:
        """The measures on test inputs."""
        return tuple(one for one in self.measures if one.part == "test")


def fit_of(subject: Subject, budget: float, choices: Choices) -> tuple[Fit | LeftOut | None, list[int]]:
    """How well the data's targets are predicted, and which test inputs to explain: some spread, then the worst."""
    labels, data = subject.data.test.labels, subject.data
    plain = choose_inputs(None, labels, choices.images)
    if data.train.targets is None or not subject.meaning.valued:
        return None, plain
    if len(subject.names) != data.outputs:
        words = f"The network gives {len(subject.names)} numbers and the data has {data.outputs} targets"
        return LeftOut(f"{words}, so how well they are predicted cannot be told."), plain
    targets, values, asked = {}, {}, torch.arange(0)
    for part, inputs, split in (("training", subject.train, data.train), ("test", subject.test, data.test)):
        asked = spread_evenly(len(inputs), max(choices.images, subject.affordable(budget, len(inputs))))
        batches = progress_bar(None, f"{part} set", iterable=inputs[asked].split(subject.at_once), unit="batch")
        values[part] = as_array(torch.cat([subject.own(batch) for batch in batches]))
        targets[part] = as_array(split.targets[asked]) if split.targets is not None else values[part]
    measures = tuple(
        _measure(name, part, values[part][:, unit], targets[part][:, unit])
        for unit, name in enumerate(subject.names)
        for part in targets
    )
    # Errors in units of the targets' spread over the training inputs, so that none counts more than another.
    spread = targets["training"].std(0)
    errors = ((values["test"] - targets["test"]) ** 2 / np.where(spread > 0, spread, 1) ** 2).sum(1)
    worst = asked[np.argsort(-errors, kind="stable")[: choices.images // 3]].tolist()
    others = [index for index in asked.tolist() if index not in worst]
    chosen = [others[place] for place in spread_evenly(len(others), choices.images - len(worst)).tolist()] + worst
    rows = [] if data.test.targets is None else data.test.targets[chosen].tolist()
    explained = {index: tuple(row) for index, row in zip(chosen, rows, strict=True)}
    excess = sqrt(float(errors.max() / errors.mean())) if errors.any() else 1.0
    return Fit(subject.names, measures, targets, values, explained, tuple(worst), excess), chosen


def _measure(name: str, part: str, values: np.ndarray, targets: np.ndarray) -> Measure:
    errors, variance = (values - targets) ** 2, float(targets.var())
    r2 = float(explained(torch.from_numpy(values), torch.from_numpy(targets)))
    uncertainty = float(errors.std()) / sqrt(len(errors)) / variance if variance else nan
    return Measure(name, part, len(targets), r2, sqrt(float(errors.mean())), sqrt(variance), uncertainty)


def fit_lines(fit: Fit | LeftOut | None, doubt: str) -> list[str]:
    """Write it as lines of text."""
    if not isinstance(fit, Fit):
        return []
    pairs = zip(fit.measures[::2], fit.tests, strict=True)
    return [
        f"{test.name}: R2 {train.r2:.3f} on training inputs, {test.r2:.3f} on test inputs (RMSE {test.rmse:.4g},"
        f" deviation {test.deviation:.4g}){doubt}"
        for train, test in pairs
    ]


def fit_hints(fit: Fit | LeftOut | None) -> Iterator[Hint]:
    """What the predictions ask for."""
    if not isinstance(fit, Fit):
        return
    for train, test in zip(fit.measures[::2], fit.tests, strict=True):
        if not (isfinite(train.r2) and isfinite(test.r2)):
            continue
        lost, doubt = train.r2 - test.r2, 2 * hypot(train.uncertainty, test.uncertainty)
        found = f"R² of {test.name} is {test.r2:.2f} ± {test.uncertainty:.2f} on test inputs"
        # What may be chance asks for nothing.
        if lost > max(LOST, doubt):
            yield Hint(
                f"{found}, and {train.r2:.2f} on those that it was trained on, which it fits in part by heart.",
                "Go by the former. Try more training inputs or fewer epochs first, and compare R² on test inputs.",
                "fit",
            )
        elif test.r2 + 2 * test.uncertainty < LOST:
            yield Hint(
                f"{found}: hardly better than always giving the mean.",
                "See whether the features say anything about it, and whether it was trained long enough.",
                "fit",
            )
    if fit.worst and fit.excess > FAR:
        yield Hint(
            f"The error at test input {fit.worst[0]} is {fit.excess:.1f} times the root of the mean squared error.",
            "Read what its value is made of, and see whether its target is right.",
            f"input-{fit.worst[0]}",
        )
