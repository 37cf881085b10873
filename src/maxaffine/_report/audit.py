"""What the codes say about a training set: inputs that occur twice, and labels that may be wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._report.neighbors import BLOCK, Searched, apart, fingerprints, nearly_equal, typical_distance
from maxaffine._report.subject import Subject
from maxaffine._search import label_errors, near_duplicates

# Pairs and suspects whose pictures are shown.
DRAWN = 10
# What their figures are called.
TWICE, ALIKE, WRONG = "near-duplicates", "treated-alike", "label-errors"
# Neighbors that the scores of the audit count.
JUDGES, FEWEST_JUDGES = 10, 3


@dataclass(frozen=True)
class Pair:
    """Two training inputs that are treated almost alike."""

    first: int  # its number in the training set, the earlier one
    second: int
    labels: tuple[str, str]
    distance: float  # in code, the mean over the operators
    score: float  # as `NearDuplicates` says, 1 for the same region
    equal: bool  # number by number
    apart: float  # distance of the inputs themselves, as a share of that of two training inputs drawn at random
    copies: bool  # whether the inputs are equal or nearly so, and not only treated alike

    @property
    def clashing(self) -> bool:
        """Whether their labels differ."""
        return len(set(self.labels)) > 1

    @property
    def apart_words(self) -> str:
        """How far the inputs are apart, in a few words."""
        return "equal inputs" if self.equal else f"inputs {self.apart:.0%} apart"


@dataclass(frozen=True)
class Suspect:
    """A training input whose neighbors carry another label."""

    index: int
    label: str
    suggested: str  # the class that most of its neighbors have
    score: float  # share of the neighbors it could have of its own class that are of another
    neighbors: tuple[tuple[int, str], ...]  # at the last operator, nearest first: number and class


@dataclass(frozen=True)
class Audit:
    """What the codes say about the training set."""

    inputs: int
    crowded: int  # inputs that share a region with so many others that this says nothing about copies
    pairs: tuple[Pair, ...]  # copies first, and of them the most alike
    suspects: tuple[Suspect, ...]  # the most suspicious first
    # Where the neighbors of suspects were searched; empty without labels, or where the outputs are values, since then
    # neighbors need not share a class. Then the lowest score of a suspect.
    operators: tuple[str, ...]
    threshold: float
    pictures: Mapping[int, np.ndarray]  # the inputs of the first pairs and suspects, by number
    nearly: float  # up to how far apart inputs are nearly equal, as `Pair.apart` counts
    judges: int = 0  # neighbors that each score counts
    too_small: tuple[tuple[str, int], ...] = ()  # classes of at most so many inputs, which cannot be judged

    @property
    def too_small_words(self) -> str:
        """Which classes cannot be judged, in one sentence; empty where all can."""
        if not self.too_small:
            return ""
        sizes = ", ".join(f"{name} with {count}" for name, count in self.too_small[:DRAWN])
        more = f" and {len(self.too_small) - DRAWN} more" if len(self.too_small) > DRAWN else ""
        classes = "1 class" if len(self.too_small) == 1 else f"{len(self.too_small)} classes"
        return f"Too small to judge (at most {self.judges} inputs each): {classes} ({sizes}{more})."


def audit_of(searched: Searched, subject: Subject) -> Audit:
    """Look for near-duplicates and, where classes are told apart, for wrong labels among encoded training inputs."""
    data, numbers = subject.data, searched.numbers.tolist()
    labels = data.train.labels[searched.numbers]
    names = [data.class_names[label] for label in labels.tolist()]
    k = min(JUDGES, max(1, len(numbers) - 1))
    twice = near_duplicates(searched.codes, k=k)
    equal = _equal(data.train.inputs[searched.numbers], twice.pairs)
    # Only k neighbors are looked at: sharing a region with as many or more says nothing about copies.
    crowded = torch.bincount(twice.pairs[twice.distances == 0].flatten(), minlength=twice.inputs) >= k
    shown = ~crowded[twice.pairs].any(1) | (twice.distances > 0) | equal
    scale = typical_distance(data.train.inputs[searched.numbers])
    far = _far(data.train.inputs, searched.numbers, twice.pairs[shown], scale)
    nearly = nearly_equal(data.train.inputs[searched.numbers], scale)
    parts = (*(part[shown] for part in (twice.pairs, twice.distances, twice.scores, equal)), far)
    rows = zip(*(part.tolist() for part in parts), strict=True)
    found = (
        Pair(numbers[a], numbers[b], (names[a], names[b]), d, score, same, away, same or away <= nearly)
        for (a, b), d, score, same, away in rows
    )
    pairs = tuple(sorted(found, key=lambda pair: not pair.copies))
    suspects: tuple[Suspect, ...] = ()
    operators: tuple[str, ...] = ()
    too_small: tuple[tuple[str, int], ...] = ()
    threshold, judges = 0.0, 0
    if subject.labeled and not subject.meaning.valued:
        judges = min(k, _judges(labels))
        errors = label_errors(searched.codes, labels, k=judges)
        too_small = tuple((data.class_names[label], count) for label, count in errors.too_small.items())
        operators, threshold = tuple(searched.titles[name] for name in errors.operators), errors.threshold
        suspects = tuple(
            Suspect(
                numbers[i],
                names[i],
                data.class_names[int(errors.suggested[i])],
                float(errors.scores[i]),
                tuple((numbers[j], names[j]) for j in errors.neighbors[i].tolist()),
            )
            for i in errors.candidates.tolist()
        )
    drawn = {number for pair in _shown(pairs) for number in (pair.first, pair.second)}
    drawn |= {number for one in suspects[:DRAWN] for number in (one.index, *(near for near, _ in one.neighbors))}
    pictures = {number: subject.picture_of(data.train.inputs[number]) for number in sorted(drawn)}
    crowds = int(crowded.sum())
    return Audit(len(numbers), crowds, pairs, suspects, operators, threshold, pictures, nearly, judges, too_small)


def _shown(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that are drawn: the first copies, and the first of the others."""
    copies, others = ([pair for pair in pairs if pair.copies == kind] for kind in (True, False))
    return copies[:DRAWN] + others[:DRAWN]


def _judges(labels: Tensor) -> int:
    """How many neighbors, within limits, leave at least half of the inputs in classes large enough to judge."""
    _, member, sizes = labels.unique(return_inverse=True, return_counts=True)
    return max(FEWEST_JUDGES, min(JUDGES, int(sizes[member].median()) - 1))


def _equal(inputs: Tensor, pairs: Tensor) -> Tensor:
    """Which pairs (M,) of inputs are equal number by number."""
    # Every input once, however many pairs it is in; comparing pair by pair would gather both sides of all of them.
    paired = pairs.unique()
    prints = dict(zip(paired.tolist(), fingerprints(inputs[paired]), strict=True))
    return torch.tensor([prints[a] == prints[b] for a, b in pairs.tolist()], dtype=torch.bool)


def _far(inputs: Tensor, numbers: Tensor, pairs: Tensor, scale: Tensor) -> Tensor:
    """How far the inputs of each pair (M,) are apart, as a share of the typical distance."""
    if not len(pairs):
        return torch.zeros(0, dtype=torch.float64)
    # A few at a time: an input may be in many pairs, and all sides of all of them would not fit.
    sides = (numbers[part] for part in pairs.split(BLOCK))
    return torch.cat([apart(inputs[side[:, 0]], inputs[side[:, 1]], scale) for side in sides])


def audit_rows(audit: Audit) -> dict[str, list[tuple[str, list[tuple[int, str, bool]]]]]:
    """The pictures of an audit, row by row, as `examples_figure` draws them."""
    twice, alike = (
        [
            (
                f"score {pair.score:.3f}\nd = {pair.distance:.4f}\n{pair.apart_words}",
                [_example(pair.first, pair.labels[0]), _example(pair.second, pair.labels[1], pair.clashing)],
            )
            for pair in _shown(audit.pairs)
            if pair.copies == kind
        ]
        for kind in (True, False)
    )
    wrong = [
        (
            f"score {one.score:.3f}\nlabeled {one.label}\nneighbors say\n{one.suggested}",
            [_example(one.index, one.label, True), *(_example(number, label) for number, label in one.neighbors)],
        )
        for one in audit.suspects[:DRAWN]
    ]
    return {name: rows for name, rows in ((TWICE, twice), (ALIKE, alike), (WRONG, wrong)) if rows}


def _example(number: int, label: str, warning: bool = False) -> tuple[int, str, bool]:
    return number, f"train {number}\n{label}", warning


def audit_lines(audit: Audit) -> list[str]:
    """Write an audit as lines of text."""
    head = f"near-duplicates among {audit.inputs:,} training inputs: {len(audit.pairs)}"
    copies = sum(pair.copies for pair in audit.pairs)
    words = f", {copies} of them copies (score 1: the same region; apart: of the distance of two drawn at random)"
    lines = ["", head + (words if audit.pairs else "")]
    if audit.crowded:
        lines.append(f"  ({audit.crowded:,} inputs share their region with so many others that only equal ones count)")
    for pair in audit.pairs[:DRAWN]:
        labels = " ≠ ".join(pair.labels) if pair.clashing else pair.labels[0]
        lines.append(
            f"  {pair.first:>6} {pair.second:>6}  score {pair.score:.3f}  distance {pair.distance:.4f}  {labels}"
            + f", {pair.apart_words}"
        )
    if not audit.operators:
        return lines
    operators = ", ".join(audit.operators)
    head = f"label-error candidates: {len(audit.suspects)} (neighbors at {operators}; score from {audit.threshold:g})"
    lines += ["", head, *([f"  {audit.too_small_words}"] if audit.too_small else [])]
    for one in audit.suspects[:DRAWN]:
        lines.append(f"  {one.index:>6}  score {one.score:.3f}  labeled {one.label}, neighbors say {one.suggested}")
    return lines
