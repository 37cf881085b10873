"""Why a network answered so: its templates at some test inputs, where the offsets come from, and the runner-up."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite, prod

import numpy as np
from torch import Tensor

from maxaffine._drawing import is_image
from maxaffine._graph import as_tuple
from maxaffine._network import difference
from maxaffine._progress import progress_bar
from maxaffine._report.subject import Meaning, Subject, as_array, spread_evenly
from maxaffine._templates import Comparison, Templates, templates
from maxaffine.errors import BadInput

LARGEST_CONTRIBUTIONS = 5


@dataclass(frozen=True)
class UnitSplit:
    """One output c at one input x, split into its parts: value = <A_c, x> + b_c."""

    unit: int  # its flat number
    name: str
    label: bool  # whether it is the input's own class
    value: float  # of the untouched module
    inner: float
    offset: float
    residual: float  # value - (inner + offset), and what rounding explains of it
    bound: float
    norm: float  # |A_c|, and the cosine of A_c with x
    match: float
    template: np.ndarray  # A_c, shaped as the input
    # The largest parts of b_c by operator, of the same operators for every output shown, and the sum of all others.
    contributions: tuple[tuple[str, float], ...]
    others: float
    isotropic: float | None  # what the mean of A_c over shells about the middle matches, of volumes

    @property
    def exact(self) -> bool:
        """Whether the parts add up to the module's output, but for rounding."""
        return abs(self.residual) <= self.bound


@dataclass(frozen=True)
class RunnerUp:
    """What made the largest output c larger than the second largest d: margin = <A_c - A_d, x> + b_c - b_d."""

    winner: str
    loser: str
    inner: float
    offset: float
    margin: float
    # Of x from c = d: margin / |A_c - A_d|, as long as its region reaches that far; |x| to compare it with.
    distance: float
    size: float
    cosine: float  # of A_c with A_d
    template: np.ndarray  # A_c - A_d, and (A_c - A_d) x entry by entry, shaped as the input
    shares: np.ndarray


@dataclass(frozen=True)
class Answer:
    """Why one test input gets its outputs."""

    index: int
    input: np.ndarray
    # Names, empty without classes, and whether they agree; None where the outputs do not give a class of the data.
    label: str
    predicted: str
    right: bool | None
    splits: tuple[UnitSplit, ...]
    runner_up: RunnerUp | None  # None where outputs do not compete
    shares: np.ndarray | None  # A x entry by entry, of a network with a single output
    picture: np.ndarray | None  # the whole output, where it is one
    apart: float | None = None  # |A - J| / |J| over the outputs shown; None without held gates, or without a finite J


def choose_inputs(right: Tensor | None, labels: Tensor, count: int) -> list[int]:
    """Choose which test inputs to explain: right answers, one class after another, then some wrong ones."""
    if right is None:
        return spread_evenly(len(labels), count).tolist()
    wrong = (~right).nonzero().flatten().tolist()
    # The first of every class, then the second of every class, and so on: data may be sorted by class.
    turns: dict[int, int] = {}
    ranked = []
    for index in right.nonzero().flatten().tolist():
        label = int(labels[index])
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], label, index))
    # A third is wrong answers; more where there are too few right ones.
    mistakes = wrong[: max(count // 3, count - len(ranked))]
    return [index for _, _, index in sorted(ranked)][: count - len(mistakes)] + mistakes


def answers_of(subject: Subject, chosen: list[int], count: int) -> Iterator[Answer]:
    """Explain some test inputs by ``count`` outputs each, and that of their own class."""
    # Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576), sections 4 and
    # 5: a network is a template matching machine, f_c(x) = <A_c, x> + b_c with the row A_c of the map that holds at x.
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
            apart=_distance_to_jacobian(subject, x, units),
        )


def _distance_to_jacobian(subject: Subject, x: Tensor, units: list[int]) -> float | None:
    """How far the rows of A for some outputs are from the Jacobian's, relative to those."""
    try:
        found = float(subject.net.jacobian_distance(x, units, output=subject.output)) if subject.net.gated else inf
    except BadInput:  # a root of zero, whose gate is held and which has no slope
        return None
    return found if isfinite(found) else None


def _units(subject: Subject, own: Tensor, label: int, count: int) -> list[int]:
    """Flat numbers of the outputs to show: the largest ones, or some spread over an output that holds values."""
    if subject.competes:
        # The runner-up needs two.
        top = own.argsort(descending=True, stable=True)[: max(2, count)].tolist()
        return top if subject.meaning is Meaning.SCORES or label in top else [*top, label]
    if len(subject.units) < 2:
        return spread_evenly(prod(subject.units), count).tolist()
    # Of a picture or a field, places on its diagonal.
    places = [[size * place // (count + 1) for size in subject.units] for place in range(1, count + 1)]
    return list(dict.fromkeys(int(np.ravel_multi_index(place, subject.units)) for place in places))


def _splits(found: Templates, own: Tensor, label: int | None) -> tuple[UnitSplit, ...]:
    slopes = _of_first(found.slopes)
    parts = {name: part[0].double() for name, part in found.contributions.items()}
    # Ranked by the largest part in any output shown, so that all of them list the same operators.
    largest = sorted(parts, key=lambda name: -float(parts[name].abs().max()))[:LARGEST_CONTRIBUTIONS]
    inner, offsets = found.inner[0], found.offsets[0]
    isotropic = found.by_shells().isotropic[0].tolist() if slopes.ndim == 5 else [None] * len(inner)
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
            isotropic=isotropic[row],
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
