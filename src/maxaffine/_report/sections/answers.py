"""Why a network answered so: its templates at some test inputs, where the offsets come from, and the runner-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor

from maxaffine._drawing import is_image
from maxaffine._graph import as_tuple
from maxaffine._network import difference
from maxaffine._progress import progress_bar
from maxaffine._report.subject import Meaning, Subject, as_array, spaced
from maxaffine._templates import Comparison, Templates, templates

LARGEST_CONTRIBUTIONS = 5


@dataclass(frozen=True)
class UnitSplit:
    """One output at one input, split into its parts: value = <A_c, x> + b_c.

    Attributes:
        unit: Flat number of the output c.
        name: What to call it.
        label: Whether it is the input's own class.
        value: The untouched module's output.
        inner: <A_c, x>.
        offset: b_c.
        residual: value - (<A_c, x> + b_c).
        bound: What rounding explains of it.
        norm: |A_c|.
        match: Cosine of A_c with x.
        template: A_c, shaped as the input.
        contributions: The largest parts of b_c by operator, as many and in the same order for every output shown.
        others: Sum of all further contributions to b_c.
    """

    unit: int
    name: str
    label: bool
    value: float
    inner: float
    offset: float
    residual: float
    bound: float
    norm: float
    match: float
    template: np.ndarray
    contributions: tuple[tuple[str, float], ...]
    others: float

    @property
    def exact(self) -> bool:
        """Whether the parts add up to the module's output, but for rounding."""
        return abs(self.residual) <= self.bound


@dataclass(frozen=True)
class RunnerUp:
    """What made the largest output c larger than the second largest d: margin = <A_c - A_d, x> + b_c - b_d.

    Attributes:
        winner: Name of c.
        loser: Name of d.
        inner: <A_c - A_d, x>.
        offset: b_c - b_d.
        margin: By how much c is larger.
        distance: Of x from c = d, margin / |A_c - A_d|, as long as its region reaches that far.
        size: |x|, to compare the distance with.
        cosine: Of A_c with A_d.
        template: A_c - A_d, shaped as the input.
        shares: (A_c - A_d) x entry by entry, likewise.
    """

    winner: str
    loser: str
    inner: float
    offset: float
    margin: float
    distance: float
    size: float
    cosine: float
    template: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class Answer:
    """Why one test input gets its outputs.

    Attributes:
        index: Its number in the test set.
        input: x.
        label: Name of its class; empty where the data has none.
        predicted: Name of the answer; empty where the outputs are values.
        right: Whether they agree; None where the outputs do not give a class of the data.
        splits: One per shown output.
        runner_up: What decided between the two largest; None where outputs do not compete.
        shares: A x entry by entry, shaped as the input, of a single output; None where there are several.
        picture: The whole output, where it is a picture.
    """

    index: int
    input: np.ndarray
    label: str
    predicted: str
    right: bool | None
    splits: tuple[UnitSplit, ...]
    runner_up: RunnerUp | None
    shares: np.ndarray | None
    picture: np.ndarray | None


def choose_inputs(right: Tensor | None, labels: Tensor, count: int) -> list[int]:
    """Choose which test inputs to explain: right answers, one class after another, then some wrong ones.

    Args:
        right: Whether each test input is classified correctly (N,); None where that is not known.
        labels: Their classes (N,).
        count: How many to choose.

    Returns:
        Numbers of test inputs: the first of each class in turn; up to a third of them wrong answers, at the end.

    Example:
        >>> from torch import tensor
        >>> right, labels = tensor([True, True, False, True]), tensor([0, 0, 0, 1])
        >>> choose_inputs(right, labels, 3)
        [0, 3, 2]
    """
    if right is None:
        return spaced(len(labels), count).tolist()
    wrong = (~right).nonzero().flatten().tolist()
    turns: dict[int, int] = {}
    ranked = []
    for index in right.nonzero().flatten().tolist():
        label = int(labels[index])
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], label, index))
    mistakes = wrong[: max(count // 3, count - len(ranked))]
    return [index for _, _, index in sorted(ranked)][: count - len(mistakes)] + mistakes


def answers_of(subject: Subject, chosen: list[int], count: int) -> tuple[Answer, ...]:
    """Explain some test inputs.

    Args:
        subject: The network and the data.
        chosen: Numbers of the test inputs.
        count: Outputs shown for each; the input's own class comes in addition.

    Returns:
        An explanation each.

    Raises:
        ExactnessError: When a template misses its output by more than rounding can explain.

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
    sections 4 and 5: deep networks are template matching machines.
    """
    return tuple(_answers(subject, chosen, count))


def _answers(subject: Subject, chosen: list[int], count: int) -> Iterator[Answer]:
    for index in progress_bar(None, "templates", iterable=chosen, unit="input"):
        x = subject.test[index : index + 1]
        own = subject.own(x)
        label, answer = int(subject.data.test.labels[index]), int(subject.answers(own)[0])
        units = _units(subject, own[0], label, count)
        names = {unit: subject.unit_name(unit) for unit in units}
        found = templates(subject.net, x, units, output=subject.output, names=names, progress=False)
        splits = _splits(found, own[0].double(), label if subject.meaning is Meaning.CLASSES else None)
        yield Answer(
            index=index,
            input=as_array(x[0]),
            label=subject.data.class_names[label] if subject.labeled else "",
            predicted=subject.answer_name(answer) if not subject.meaning.valued else "",
            right=answer == label if subject.classifies else None,
            splits=splits,
            runner_up=_runner_up(found.runner_up(), x) if subject.competes and len(units) > 1 else None,
            shares=splits[0].template * as_array(x[0]) if own.shape[1] == 1 else None,
            picture=as_array(own[0]).reshape(subject.units) if is_image(subject.units) else None,
        )


def _units(subject: Subject, own: Tensor, label: int, count: int) -> list[int]:
    """Flat numbers of the outputs to show: the largest ones, or some spread over an output that holds values."""
    if subject.competes:
        # The runner-up needs two.
        top = own.argsort(descending=True, stable=True)[: max(2, count)].tolist()
        return top if subject.meaning is Meaning.SCORES or label in top else [*top, label]
    if len(subject.units) < 2:
        return spaced(prod(subject.units), count).tolist()
    places = [[size * place // (count + 1) for size in subject.units] for place in range(1, count + 1)]
    return list(dict.fromkeys(int(np.ravel_multi_index(place, subject.units)) for place in places))


def _splits(found: Templates, own: Tensor, label: int | None) -> tuple[UnitSplit, ...]:
    slopes = _of_first(found.slopes)
    parts = {name: part[0].double() for name, part in found.contributions.items()}
    largest = sorted(parts, key=lambda name: -float(parts[name].abs().max()))[:LARGEST_CONTRIBUTIONS]
    inner, offsets = found.inner[0], found.offsets[0]
    return tuple(
        UnitSplit(
            unit=unit,
            name=found.names[row],
            label=unit == label,
            value=float(own[unit]),
            inner=float(inner[row]),
            offset=float(offsets[row]),
            residual=float(difference(own[unit] - inner[row], offsets[row])),
            bound=float(found.bound[0]),
            norm=float(found.norms[0, row]),
            match=float(found.matches[0, row]),
            template=slopes[row],
            contributions=tuple((name, float(parts[name][row])) for name in largest),
            others=float(sum(part[row] for name, part in parts.items() if name not in largest)),
        )
        for row, unit in enumerate(found.units)
    )


def _runner_up(found: Comparison, x: Tensor) -> RunnerUp:
    return RunnerUp(
        winner=found.winners[0],
        loser=found.losers[0],
        inner=float(found.inner[0]),
        offset=float(found.offsets[0]),
        margin=float(found.margins[0]),
        distance=float(found.distances[0]),
        size=float(x.double().norm()),
        cosine=float(found.cosines[0]),
        template=_of_first(found.slopes),
        shares=_of_first(found.shares),
    )


def _of_first(rows: Tensor | tuple[Tensor, ...]) -> np.ndarray:
    """What is found at the first sample of the batch, for the network's one input."""
    return as_array(as_tuple(rows)[0][0])


def exact(answers: tuple[Answer, ...]) -> bool:
    """Whether every output shown is the sum of its parts, but for rounding."""
    return all(split.exact for one in answers for split in one.splits)
