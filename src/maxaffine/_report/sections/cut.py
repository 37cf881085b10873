"""How a network cuts the space around three inputs, or the coordinates of a field: every region of a plane of it."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition import LinePartition, PlanePartition, PlaneReport, line, plane
from maxaffine._report.coordinates import coordinate_plane
from maxaffine._report.facts import Choices, LeftOut
from maxaffine._report.subject import Meaning, Subject
from maxaffine.errors import BadInput, MaxAffineError

# Numbers that may be computed for the vertices of the plane, and for the lines between the inputs and for the check.
WORK, CHECK_WORK = 3e9, 1e9
# Likewise for a picture of the whole plane, of so many points.
OVERVIEW_WORK, OVERVIEW, FEWEST_POINTS = 2e8, 14_400, 400
FEWEST_CELLS = 20
FEWEST_PIECES, MOST_PIECES = 8, 2**16
SAMPLES = 512
STEPS = 32
MARGIN = 0.15
# The ways between the three inputs, in the order in which they are searched for a change of the answer.
WAYS = ((0, 1), (1, 2), (0, 2))


@dataclass(frozen=True)
class Change:
    """Where the answer changes on the straight way from one input of the plane to another."""

    start: int  # numbers of the two test inputs
    end: int
    share: float  # of the way that lies before the change
    before: str  # names of the answers
    after: str
    first: bool  # whether no other change is known to come before it on this way


@dataclass(frozen=True)
class Reach:
    """The values that one output takes on what is shown."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Overview:
    """The whole rectangle around three inputs, of which a part is divided exactly."""

    window: tuple[float, float, float, float]  # left, right, bottom, top
    part: np.ndarray  # likewise, (4,)
    corners: np.ndarray  # (3, 2) where the inputs lie
    # (H, W) the answers, or the first value, at points evenly spaced, from the top left; None where outputs are
    # pictures or cost too much.
    answers: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Cut:
    """The regions of a network on a plane through three test inputs, or of the coordinates of a field."""

    anchors: tuple[int, ...]  # numbers of the test inputs; none where the plane is one of coordinates
    labels: tuple[str, ...]  # names of their classes
    partition: PlanePartition
    # Side of what is shown, relative to the rectangle around the inputs, and about how many regions that has.
    share: float
    expected: int
    # Where the answer changes, which what is shown is laid around, and how much of the ways on which that was looked
    # for was followed exactly. None where outputs are values, or no change was found.
    change: Change | None
    followed: float
    check: PlaneReport
    areas: tuple[tuple[str, float], ...]  # share of the area by answer, the largest first; none of values
    values: tuple[Reach, ...]  # of values that are a row
    height: float | None = None  # the third coordinate all over the plane, of a field over three
    overview: Overview | None = None  # of the plane through three inputs, where only a part is divided


@dataclass(frozen=True, eq=False)
class _Place:
    """A rectangle of a plane."""

    anchors: tuple[int, ...]
    inputs: Tensor  # (3, *in) a triangle of inputs
    corners: np.ndarray  # (3, 2) where it lies on the plane
    low: np.ndarray  # left and bottom of the rectangle
    high: np.ndarray
    options: dict[str, Any]  # what makes the plane, for `plane`
    height: float | None = None


def cut_of(subject: Subject, chosen: list[int], choices: Choices) -> Cut | LeftOut:
    """Divide the plane through three explained test inputs, or of the coordinates of a field, into regions."""
    # Where the whole plane has too many, a smaller rectangle is taken, as large as is affordable, around the place
    # where the answer changes first on the way from the first input to the second (or else on another way between two
    # of them, or else the middle of the first way).
    try:
        place = _coordinates(subject) if subject.meaning is Meaning.FIELD else _input_plane(subject, chosen)
    except BadInput as error:
        return LeftOut(f"There is no plane to show: {error}.")
    cells = subject.affordable(WORK, choices.cells)
    if cells < FEWEST_CELLS:
        return LeftOut(
            f"The network computes {subject.work:,} numbers per input, so even {FEWEST_CELLS} regions of a plane would "
            "take minutes; ma.partition.plane(net, anchors, extent=...) draws them in a run of its own."
        )
    try:
        ways = [_follow(subject, place.inputs[a], place.inputs[b]) for a, b in WAYS]
        change = _change(subject, place, ways)
        found, share, expected = _divide(subject, place, cells, ways, change)
    except MaxAffineError as error:
        return LeftOut(f"The plane cannot be divided exactly: {str(error).splitlines()[0]}.")
    samples = max(1, subject.affordable(CHECK_WORK, SAMPLES))
    labels = subject.data.test.labels
    return Cut(
        anchors=place.anchors,
        labels=tuple(subject.data.class_names[int(labels[i])] for i in place.anchors) if subject.labeled else (),
        partition=found,
        share=share,
        expected=expected,
        change=change,
        followed=sum(float(way.breakpoints[-1]) for way in ways) / len(ways),
        check=found.verify(subject.untouched, samples=samples, every_cell=False, raises=False),
        areas=_areas(subject, found),
        values=tuple(_ranges(subject, found)),
        height=place.height,
        overview=_overview(subject, place, found) if place.anchors and share < 1 else None,
    )


def _overview(subject: Subject, place: _Place, found: PlanePartition) -> Overview:
    """Ask the module itself at points evenly spaced over the whole rectangle."""
    (left, bottom), (right, top) = place.low, place.high
    (low_x, low_y), (high_x, high_y) = found.cells.points.min(0), found.cells.points.max(0)
    count = subject.affordable(OVERVIEW_WORK, OVERVIEW)
    answers = None
    if len(subject.units) < 2 and count >= FEWEST_POINTS:
        wide = max(1, round(math.sqrt(count * (right - left) / (top - bottom))))
        high = max(1, count // wide)
        # The middles of the pixels of a picture, whose first row is the top one.
        across = torch.from_numpy(left + (np.arange(wide) + 0.5) * ((right - left) / wide))
        down = torch.from_numpy(top - (np.arange(high) + 0.5) * ((top - bottom) / high))
        points = torch.cartesian_prod(down, across).flip(1)
        asked = (subject.own(subject.like(found.frame.points(part)[0])) for part in points.split(subject.at_once))
        values = torch.cat([own[:, 0].double() if subject.meaning.valued else subject.answers(own) for own in asked])
        answers = values.cpu().numpy().reshape(high, wide)
    window = float(left), float(right), float(bottom), float(top)
    return Overview(window, np.array([low_x, high_x, low_y, high_y]), place.corners, answers)


def _input_plane(subject: Subject, chosen: list[int]) -> _Place:
    """The rectangle around three of the explained inputs."""
    anchors, corners = _anchors(subject, chosen)
    low, high = corners.min(0), corners.max(0)
    margin = MARGIN * float((high - low).max())
    inputs = subject.test[anchors]
    return _Place(tuple(anchors), inputs, corners, low - margin, high + margin, {"anchors": inputs})


def _coordinates(subject: Subject) -> _Place:
    """The rectangle of the coordinates that holds the test inputs."""
    found = coordinate_plane(subject.test)
    left, right, bottom, top = found.window
    low, high = np.array([left, bottom]), np.array([right, top])
    corners = np.array([low, [right, bottom], [left, top]])
    inputs = found.origin + torch.from_numpy(corners).to(found.basis) @ found.basis
    return _Place((), inputs, corners, low, high, {"origin": found.origin, "basis": found.basis}, found.height)


def _anchors(subject: Subject, chosen: list[int]) -> tuple[list[int], np.ndarray]:
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
            break
        # The second input lies on the first axis, and the third has what is left of it at right angles to that.
        across = float(away @ along) / length
        height = math.sqrt(max(0.0, float(away @ away) - across**2))
        if height > 1e-6 * length:
            return picked, np.array([[0.0, 0.0], [length, 0.0], [across, height]])
    raise BadInput("a plane takes three test inputs that do not lie on a line, and there are none")


def _follow(subject: Subject, start: Tensor, end: Tensor) -> LinePartition:
    """The exact line between two inputs, as many of its pieces as are affordable."""
    most = max(FEWEST_PIECES, subject.affordable(CHECK_WORK / len(WAYS), MOST_PIECES))
    with warnings.catch_warnings():
        # After Ctrl-C a line warns and returns what it has, as it does where it has enough pieces.
        warnings.filterwarnings("error", "interrupted", UserWarning)
        try:
            return line(subject.net, start[None], end[None], output=subject.output, max_pieces=most, progress=False)
        except UserWarning as stopped:
            raise KeyboardInterrupt from stopped


def _estimate(place: _Place, ways: list[LinePartition]) -> int:
    """About how many regions the rectangle has: n lines through the triangle cross each other about n^2 / 6 times."""
    crossings = sum(len(way.crossings) / float(way.breakpoints[-1]) for way in ways)
    # Every line through the triangle crosses two of its sides.
    lines = crossings / 2
    # The rectangle around a triangle of inputs, with its margin, is about three times as large as the triangle.
    return round((3 if place.anchors else 2) * (1 + lines + lines**2 / 6))


def _change(subject: Subject, place: _Place, ways: list[LinePartition]) -> Change | None:
    """The first change of the answer on the first of the ways that has one."""
    if subject.meaning.valued:
        return None
    for (a, b), way in zip(WAYS, ways, strict=True):
        found = way.decisions()
        if len(found):
            before, after = (subject.answer_name(int(number)) for number in found.classes[:2])
            return Change(place.anchors[a], place.anchors[b], float(found.t[0]), before, after, True)
    for (a, b), way in zip(WAYS, ways, strict=True):
        if not way.complete and (met := _bisect(subject, way)) is not None:
            share, before, after = met
            return Change(place.anchors[a], place.anchors[b], share, before, after, False)
    return None


def _bisect(subject: Subject, way: LinePartition) -> tuple[float, str, str] | None:
    """A change on a way too long to be followed: between two points with different answers, halved to the last bit."""
    # Changes between points with the same answer are missed, so it need not be the first one.
    t = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    answers = _answers(subject, way, t)
    changes = (answers[1:] != answers[:-1]).nonzero()[:, 0].tolist()
    if not changes:
        return None
    # The answer at the low end stays the one before; the high end always has another one, the one at the end is kept.
    low, high = float(t[changes[0]]), float(t[changes[0] + 1])
    before, after = int(answers[changes[0]]), int(answers[changes[0] + 1])
    while low < (middle := (low + high) / 2) < high:
        here = int(_answers(subject, way, torch.tensor([middle], dtype=torch.float64))[0])
        low, high, after = (middle, high, after) if here == before else (low, middle, here)
    return high, subject.answer_name(before), subject.answer_name(after)


def _answers(subject: Subject, way: LinePartition, t: Tensor) -> Tensor:
    """The answers at places on a way, in float64."""
    target = way.target
    runs = (target.graph.run(target.segment.points(part))[0] for part in t.split(subject.at_once))
    return subject.answers(torch.cat([subject.front(values) for values in runs])).cpu()


def _divide(
    subject: Subject, place: _Place, cells: int, ways: list[LinePartition], change: Change | None
) -> tuple[PlanePartition, float, int]:
    """The partition of the largest rectangle that has few enough cells, its share, and what the whole one may have."""
    low, high = place.low, place.high
    expected = _estimate(place, ways)
    share = min(1.0, math.sqrt(cells / expected))
    center = _center(place, change)
    while True:
        # As near to the center as the whole rectangle allows.
        start = np.clip(center - share * (high - low) / 2, low, high - share * (high - low))
        end = start + share * (high - low)
        extent = (start[0], end[0], start[1], end[1])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "interrupted", UserWarning)
            found = plane(subject.net, **place.options, extent=extent, output=subject.output)
        if not found.complete:
            raise KeyboardInterrupt
        # Regions grow about as the area does, so a rectangle that has too many shrinks by the root of the excess.
        if found.regions <= 1.5 * cells:
            return found, share, expected
        share *= math.sqrt(cells / found.regions)


def _center(place: _Place, change: Change | None) -> np.ndarray:
    """The middle of what is shown where that is not all."""
    if change is not None:
        a, b = (place.corners[place.anchors.index(number)] for number in (change.start, change.end))
        return a + change.share * (b - a)
    return place.corners[1] / 2 if place.anchors else (place.low + place.high) / 2


def _areas(subject: Subject, found: PlanePartition) -> tuple[tuple[str, float], ...]:
    if subject.meaning.valued:
        return ()
    decided = found.divided_by_class()
    sums = np.bincount(decided.classes.numpy(), weights=decided.areas.numpy())
    present = [number for number in np.argsort(-sums, kind="stable").tolist() if sums[number] > 0]
    return tuple((subject.answer_name(number), float(sums[number] / sums.sum())) for number in present)


def _ranges(subject: Subject, found: PlanePartition) -> Iterator[Reach]:
    """The range of every value: an affine function is least and largest at corners."""
    if subject.meaning.valued and len(subject.units) < 2:
        corners = found.values.numpy()[np.unique(found.cells.corners)]
        for unit, (low, high) in enumerate(zip(corners.min(0).tolist(), corners.max(0).tolist(), strict=True)):
            yield Reach(subject.unit_name(unit), low, high)
