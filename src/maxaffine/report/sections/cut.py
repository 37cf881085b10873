"""How a network cuts the space around three inputs: every region of the plane through them, or of a part of it."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine.errors import MaxAffineError
from maxaffine.partition import PlanePartition, PlaneReport, plane
from maxaffine.report.facts import Choices, LeftOut
from maxaffine.report.sections.subject import Meaning, Subject

# Numbers that the vertices of the plane may compute, and those that count codes on the triangle's sides and check.
WORK, CHECK_WORK = 3e9, 1e9
FEWEST_CELLS = 20
SAMPLES = 512
STEPS = 64
MARGIN = 0.15


@dataclass(frozen=True, eq=False)
class Cut:
    """The regions of a network on a plane through three test inputs.

    Attributes:
        anchors: Numbers of the test inputs.
        labels: Names of their classes; empty where the data has none.
        partition: The regions.
        share: Side of what is shown, relative to the rectangle around the three inputs; 1 where it is all of it.
        expected: About how many regions the whole rectangle has, from the codes on the triangle's sides.
        check: The partition compared with codes at random points, and with the untouched module there.
        areas: Share of the area by answer, the largest first; empty where the outputs are values.
    """

    anchors: tuple[int, ...]
    labels: tuple[str, ...]
    partition: PlanePartition
    share: float
    expected: int
    check: PlaneReport
    areas: tuple[tuple[str, float], ...]


def cut_of(subject: Subject, chosen: list[int], choices: Choices) -> Cut | LeftOut:
    """Divide the plane through three of the explained test inputs into regions.

    Where the whole plane has too many, a smaller rectangle is taken, as large as is affordable, around the place where
    the answer changes on the way from the first input to the second (or the middle of that way).

    Args:
        subject: The network and the data.
        chosen: Numbers of the explained test inputs.
        choices: About how many regions are shown at most.

    Returns:
        The partition, or why there is none.

    Raises:
        KeyboardInterrupt: Ctrl-C; half of a plane would mislead.
    """
    picked = _anchors(subject, chosen)
    if picked is None:
        return LeftOut("A plane takes three test inputs that do not lie on a line, and there are none.")
    anchors, corners = picked
    cells = subject.affordable(WORK, choices.cells)
    if cells < FEWEST_CELLS:
        return LeftOut(
            f"The network computes {subject.work:,} numbers per input, so even {FEWEST_CELLS} regions of a plane would "
            "take minutes; ma.partition.plane(net, anchors, extent=...) draws them in a run of its own."
        )
    try:
        expected = _expected(subject, anchors)
        found, share = _divided(subject, anchors, corners, cells, expected)
    except MaxAffineError as error:
        return LeftOut(f"The plane cannot be divided exactly: {str(error).splitlines()[0]}.")
    samples = max(1, subject.affordable(CHECK_WORK, SAMPLES))
    return Cut(
        anchors=tuple(anchors),
        labels=tuple(subject.data.class_names[int(subject.data.test.labels[i])] for i in anchors)
        if subject.labelled
        else (),
        partition=found,
        share=share,
        expected=expected,
        check=found.verify(subject.reference, samples=samples, every_cell=False, raises=False),
        areas=_areas(subject, found),
    )


def _anchors(subject: Subject, chosen: list[int]) -> tuple[list[int], np.ndarray] | None:
    """Three of the explained inputs, of different classes where there are, and their coordinates on the plane."""
    labels = subject.data.test.labels.tolist()
    first = list({labels[index]: index for index in reversed(chosen)}.values())[::-1]
    ordered = [*first, *(index for index in chosen if index not in first)]
    for third in ordered[2:]:
        picked = [*ordered[:2], third]
        x = subject.test[picked].double().flatten(1).cpu()
        along, away = x[1] - x[0], x[2] - x[0]
        length = float(along.norm())
        if length == 0:
            return None
        across = float(away @ along) / length
        height = math.sqrt(max(0.0, float(away @ away) - across**2))
        if height > 1e-6 * length:
            return picked, np.array([[0.0, 0.0], [length, 0.0], [across, height]])
    return None


def _expected(subject: Subject, anchors: list[int]) -> int:
    """About how many regions the rectangle has: n lines through the triangle cross each other about n^2 / 6 times."""
    x = subject.test[anchors]
    steps = max(4, subject.affordable(CHECK_WORK, 3 * STEPS) // 3)
    t = torch.linspace(0, 1, steps + 1, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.dim() - 1))
    crossings = sum(_changes(subject, (1 - t) * x[i] + t * x[(i + 1) % 3]) for i in range(3))
    # Every line through the triangle crosses two of its sides; codes that change twice between two points are missed.
    lines = crossings / 2
    # The rectangle with its margin is about three times as large as the triangle.
    return round(3 * (1 + lines + lines**2 / 6))


def _changes(subject: Subject, points: Tensor) -> int:
    """How many units change their code between neighbouring points."""
    total = 0
    for start in range(0, len(points) - 1, subject.at_once):
        codes = subject.net.codes(points[start : start + subject.at_once + 1])
        total += sum(int((part[1:].unpack() != part[:-1].unpack()).sum()) for part in codes.values())
    return total


def _divided(
    subject: Subject, anchors: list[int], corners: np.ndarray, cells: int, expected: int
) -> tuple[PlanePartition, float]:
    """The partition of the largest rectangle that has few enough cells."""
    low, high = corners.min(0), corners.max(0)
    margin = MARGIN * float((high - low).max())
    low, high = low - margin, high + margin
    share = min(1.0, math.sqrt(cells / expected))
    inputs = subject.test[anchors]
    centre = _change(subject, inputs[0], inputs[1]) * corners[1]
    while True:
        # As near to the centre as the whole rectangle allows.
        start = np.clip(centre - share * (high - low) / 2, low, high - share * (high - low))
        end = start + share * (high - low)
        extent = (start[0], end[0], start[1], end[1])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "interrupted", UserWarning)
            found = plane(subject.net, inputs, extent=extent, output=subject.output)
        if not found.complete:
            raise KeyboardInterrupt
        if found.regions <= 1.5 * cells:
            return found, share
        share *= math.sqrt(cells / found.regions)


def _change(subject: Subject, first: Tensor, second: Tensor) -> float:
    """About where on the way from one input to another the answer changes, in [0, 1]; halfway where it does not."""
    t = torch.linspace(0, 1, STEPS // 2 + 1, dtype=first.dtype, device=first.device)
    points = first + t.view(-1, *[1] * first.dim()) * (second - first)
    answers = torch.cat([subject.answers(subject.own(part)) for part in points.split(subject.at_once)])
    changes = (answers[1:] != answers[:-1]).nonzero()[:, 0].tolist() if subject.meaning is not Meaning.VALUES else []
    return float(t[changes[0]] + t[changes[0] + 1]) / 2 if changes else 0.5


def _areas(subject: Subject, found: PlanePartition) -> tuple[tuple[str, float], ...]:
    if subject.meaning is Meaning.VALUES:
        return ()
    decided = found.divided_by_class()
    sums = np.bincount(decided.classes.numpy(), weights=decided.areas.numpy())
    present = [number for number in np.argsort(-sums, kind="stable").tolist() if sums[number] > 0]
    return tuple((subject.answer_name(number), float(sums[number] / sums.sum())) for number in present)
