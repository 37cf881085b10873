"""What a network treats alike: neighbours of test inputs, and what they say about the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from maxaffine.capture import capture
from maxaffine.data import DataSet
from maxaffine.errors import BadInput
from maxaffine.report.contents import like_model
from maxaffine.report.facts import Choices, Neighbour, Neighbours
from maxaffine.report.neighbours import Searched, neighbours_among, searched_inputs, spaced
from maxaffine.search import label_errors, near_duplicates

# Pairs and suspects whose pictures are shown.
DRAWN = 10
# Neighbours that the scores of the audit look at.
JUDGES = 10


@dataclass(frozen=True)
class Pair:
    """Two training inputs that are treated almost alike.

    Attributes:
        first: Number of the earlier one in the training set.
        second: Number of the later one.
        labels: Names of their classes.
        distance: Their code distance, the mean over the operators.
        score: As `maxaffine.search.NearDuplicates` says, 1 for the same region.
    """

    first: int
    second: int
    labels: tuple[str, str]
    distance: float
    score: float


@dataclass(frozen=True)
class Suspect:
    """A training input whose neighbours carry another label.

    Attributes:
        index: Its number in the training set.
        label: Name of its class.
        suggested: Name of the class that most of its neighbours have.
        score: Share of its neighbours with another label.
        neighbours: The nearest at the last operator, nearest first: number and name of the class.
    """

    index: int
    label: str
    suggested: str
    score: float
    neighbours: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Audit:
    """What the codes say about the training set.

    Attributes:
        inputs: Number of training inputs compared.
        pairs: Near-duplicates, the most alike first.
        suspects: Label-error candidates, the most suspicious first.
        operators: Where the neighbours of the latter were looked for.
        threshold: Lowest score of a suspect.
        pictures: The inputs of the first pairs and suspects, by number.
    """

    inputs: int
    pairs: tuple[Pair, ...]
    suspects: tuple[Suspect, ...]
    operators: tuple[str, ...]
    threshold: float
    pictures: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Lookup:
    """Neighbours of some test inputs.

    Attributes:
        model: What to call the network.
        weights: One sentence on where its weights come from.
        data: Name of the data set.
        neighbours: The nearest training inputs.
        audit: What the codes say about the training set; None where nobody asked.
    """

    model: str
    weights: str
    data: str
    neighbours: Neighbours
    audit: Audit | None


def look_up(
    model: nn.Module,
    data: DataSet,
    choices: Choices,
    queries: Sequence[int] | None,
    audited: bool,
    names: tuple[str, str],
) -> Lookup:
    """Find the neighbours of test inputs among the training inputs.

    Args:
        model: A piecewise-affine module in evaluation mode, from inputs (N, *input_shape).
        data: The data set.
        choices: What to look at.
        queries: Numbers of the test inputs; some evenly spaced ones by default.
        audited: Whether to look for near-duplicates and label errors too.
        names: What to call the module, and one sentence on where its weights come from.

    Returns:
        The numbers.

    Raises:
        BadInput: If the network has no piecewise-affine operator, or a query or operator is not there.
        NotPiecewiseAffine: When the model has no exact spline form.
    """
    train, test = (like_model(split.inputs, model) for split in (data.train, data.test))
    net = capture(model, test[:2], until=choices.until, output=choices.output)
    searched = searched_inputs(net, train, choices)
    if searched is None:
        raise BadInput("the network has no piecewise-affine operator, so it treats all inputs alike; try another")
    chosen = spaced(len(data.test), choices.images).tolist() if queries is None else list(queries)
    if outside := [index for index in chosen if not 0 <= index < len(data.test)]:
        raise BadInput(f"queries: no test input {outside[0]}; they are numbered from 0 to {len(data.test) - 1}")
    found = neighbours_among(searched, net, train, test, data, chosen, choices)
    return Lookup(*names, data.name, found, _audit(searched, data) if audited else None)


def _audit(searched: Searched, data: DataSet) -> Audit:
    numbers, labels = searched.numbers.tolist(), data.train.labels[searched.numbers]
    called = [data.class_names[label] for label in labels.tolist()]
    k = min(JUDGES, max(1, len(numbers) - 1))
    twice, errors = near_duplicates(searched.codes, k=k), label_errors(searched.codes, labels, k=k)
    rows = zip(twice.pairs.tolist(), twice.distances.tolist(), twice.scores.tolist(), strict=True)
    pairs = tuple(Pair(numbers[a], numbers[b], (called[a], called[b]), d, score) for (a, b), d, score in rows)
    suspects = tuple(
        Suspect(
            numbers[i],
            called[i],
            data.class_names[int(errors.suggested[i])],
            float(errors.scores[i]),
            tuple((numbers[j], called[j]) for j in errors.neighbors[i].tolist()),
        )
        for i in errors.candidates.tolist()
    )
    drawn = {number for pair in pairs[:DRAWN] for number in (pair.first, pair.second)}
    drawn |= {number for one in suspects[:DRAWN] for number in (one.index, *(near for near, _ in one.neighbours))}
    pictures = {number: data.train.inputs[number].cpu().double().numpy() for number in sorted(drawn)}
    operators = tuple(searched.titles[name] for name in errors.operators)
    return Audit(len(numbers), pairs, suspects, operators, errors.threshold, pictures)


def lookup_text(lookup: Lookup) -> str:
    """Write a lookup as tables.

    Args:
        lookup: The numbers.

    Returns:
        Lines of text.
    """
    found = lookup.neighbours
    width = max(len(name) for name, _ in found.shares)
    lines = [
        f"{lookup.model}: {lookup.weights}",
        f"nearest of {found.encoded:,} training inputs: number, class, distance",
    ]
    for query in found.queries:
        lines += ["", f"test input {query.index}, class {query.label} (≠: another class)"]
        lines += [f"  {name.ljust(width)}  {'  '.join(map(_cell, layer))}" for name, layer in query.layers]
    lines += ["", f"share of the {found.count} nearest that have the query's class, over {found.probes} test inputs"]
    lines += [
        f"  {name.ljust(width)}  {share:.1%}" for name, share in [*found.shares, ("drawn at random", found.chance)]
    ]
    return "\n".join(lines + (_audit_lines(lookup.audit) if lookup.audit else []))


def audit_rows(audit: Audit) -> dict[str, list[tuple[str, list[tuple[int, str, bool]]]]]:
    """The pictures of an audit, row by row, as `maxaffine.report.figures.examples_figure` draws them.

    Args:
        audit: The numbers.

    Returns:
        By name of the figure; nothing where there is nothing to draw.
    """
    twice = [
        (
            f"score {pair.score:.3f}\nd = {pair.distance:.4f}",
            [
                (pair.first, f"train {pair.first}\n{pair.labels[0]}", False),
                (pair.second, f"train {pair.second}\n{pair.labels[1]}", pair.labels[0] != pair.labels[1]),
            ],
        )
        for pair in audit.pairs[:DRAWN]
    ]
    wrong = [
        (
            f"score {one.score:.3f}\nlabelled {one.label}\nneighbours say\n{one.suggested}",
            [
                (one.index, f"train {one.index}\n{one.label}", True),
                *((number, f"train {number}\n{label}", False) for number, label in one.neighbours),
            ],
        )
        for one in audit.suspects[:DRAWN]
    ]
    return {name: rows for name, rows in (("near-duplicates", twice), ("label-errors", wrong)) if rows}


def _cell(near: Neighbour) -> str:
    return f"{'' if near.same else '≠'}{near.index} {near.label} {near.distance:.3f}"


def _audit_lines(audit: Audit) -> list[str]:
    head = f"near-duplicates among {audit.inputs:,} training inputs: {len(audit.pairs)}"
    lines = ["", head + ("" if not audit.pairs else " (score 1: the same region)")]
    for pair in audit.pairs[:DRAWN]:
        labels = pair.labels[0] if len(set(pair.labels)) == 1 else " ≠ ".join(pair.labels)
        lines.append(
            f"  {pair.first:>6} {pair.second:>6}  score {pair.score:.3f}  distance {pair.distance:.4f}  {labels}"
        )
    operators = ", ".join(audit.operators)
    head = f"label-error candidates: {len(audit.suspects)} (neighbours at {operators}; score from {audit.threshold:g})"
    lines += ["", head]
    for one in audit.suspects[:DRAWN]:
        lines.append(f"  {one.index:>6}  score {one.score:.3f}  labelled {one.label}, neighbours say {one.suggested}")
    return lines
