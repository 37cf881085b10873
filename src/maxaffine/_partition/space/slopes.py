"""Bounds of all slopes that a network has somewhere in a box: intervals that are passed on from level to level.

Between two operators with pieces everything is affine, one matrix W. Bounds of values and slopes, as middles and radii,
go through it as W m and |W| r. At an operator a unit has the slopes of all pieces that its bounds leave open. What a
box is known for its slopes bounds its values again, from the value at its center on (the mean value theorem), which is
the closer the smaller the box is. Every rounding is added to the radii.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import torch

from maxaffine._graph import Contest, Graph, Knots
from maxaffine._partition.inputs import known_boundaries, refusal
from maxaffine._partition.planes.levels import Level, Rows, levels
from maxaffine._partition.space.halfspaces import Space
from maxaffine._partition.space.norms import Stage, norm_bounds
from maxaffine.errors import BadInput

ROUNDING = 1e-13  # of the sum of all magnitudes in a product of matrices; for up to some 500 terms each
MOST = 2**24  # numbers in a matrix, and in the slopes of all boxes at once
CURE = "use a network of at most eight inputs, whose regions are listed, or take a part before the operator with until="


@dataclass(frozen=True, eq=False)
class Interval:
    """Everything within a radius of a middle, entry by entry."""

    middle: np.ndarray
    radius: np.ndarray

    @classmethod
    def between(cls, low: np.ndarray, high: np.ndarray) -> "Interval":
        """From the low to the high end of each entry."""
        return cls((low + high) / 2, (high - low) / 2)

    @property
    def low(self) -> np.ndarray:
        """The low ends."""
        return self.middle - self.radius

    @property
    def high(self) -> np.ndarray:
        """The high ends."""
        return self.middle + self.radius

    @property
    def size(self) -> np.ndarray:
        """The largest magnitudes."""
        return np.abs(self.middle) + self.radius


@dataclass(frozen=True, eq=False)
class _Passed:
    """What an operator makes of bounds."""

    values: Interval  # (boxes, K)
    slopes: Interval  # (boxes, K, D)
    may: np.ndarray  # (boxes, K, pieces) which pieces are open
    loose: np.ndarray  # (boxes, K, D) how much its open pieces differ
    gains: Interval | None  # (boxes, K) of the slopes of units that each follow one entry; None of others
    possible: np.ndarray  # (boxes,) whether any input is on allowed pieces


@dataclass(frozen=True, eq=False)
class Found:
    """What is known of boxes with some pieces of units ruled out."""

    slopes: Interval  # (boxes, rows, D)
    most: np.ndarray  # (boxes,) a bound of their norm
    possible: np.ndarray  # (boxes,)
    sides: np.ndarray  # (boxes, D) how much of what is open each side of the box moves
    open: np.ndarray  # (boxes,) how many units are open
    unit: np.ndarray  # (boxes,) the open one that matters most
    piece: np.ndarray  # (boxes,) one of its open pieces, not the last


class _Selecting:
    """An operator with pieces, as it acts on bounds."""

    def __init__(self, level: Level, graph: Graph) -> None:
        if level.step is None:
            raise TypeError("no operator follows the last level")
        self.step, boundaries = level.step, known_boundaries(level.step)
        alive, number = level.graph.outputs, level.step.inputs[0]
        begin = sum(prod(graph.values[n].units) for n in alive[: alive.index(number)]) if number in alive else 0
        self.units = prod(graph.values[level.step.result].units)
        self.number, self.place = level.step.result, slice(begin, begin + prod(graph.values[number].units))
        self.value, self.result = graph.values[number], graph.values[self.number]
        known = number in alive and len(level.step.inputs) == 1
        if known and isinstance(boundaries, Contest) and self.number == level.step.outputs[0]:
            self.factor, self.windows = boundaries.factor, level.windows
            self.count = self.windows.shape[1]
            self.bounds = self._winners
        elif known and isinstance(boundaries, Knots):
            self.knots = boundaries.knots
            self.count = len(self.knots) + 1
            inner = [(a + b) / 2 for a, b in pairwise(self.knots)]
            self.pieces = [self._slopes(place) for place in (self.knots[0] - 1, *inner, self.knots[-1] + 1)]
            self.bounds = self._knots
        else:
            raise refusal(level.step, "how far its slopes reach within bounds is not known", CURE)

    def __call__(self, values: Interval, slopes: Interval, first: np.ndarray, last: np.ndarray) -> "_Passed":
        """What it makes of values (boxes, K) and slopes (boxes, K, D) on the pieces first to last (boxes, K)."""
        return self.bounds(values, slopes, first, last)

    def _knots(self, values: Interval, slopes: Interval, first: np.ndarray, last: np.ndarray) -> "_Passed":
        ends = np.array([-np.inf, *self.knots, np.inf])
        low, high = np.maximum(values.low, ends[first]), np.minimum(values.high, ends[last + 1])
        possible = np.asarray((low <= high).all(1))
        low = np.minimum(low, high)
        # A piece is open where the bounds reach into it, or end in its knots; on it, a value is extreme at an end.
        into = [(high > a) & (low < b) for a, b in pairwise(ends)]
        at = [(high >= a) & (low <= b) & ~np.any(into, 0) for a, b in pairwise(ends)]
        number = np.arange(len(into))[:, None, None]
        allowed = (number >= first) & (number <= last)
        may = (np.array(into) | np.array(at)) & allowed
        may |= allowed & ~may.any(0)
        steep = np.stack([np.broadcast_to(piece, low.shape) for piece in self.pieces])
        least = np.where(may, steep, np.inf).min(0)[..., None]
        most = np.where(may, steep, -np.inf).max(0)[..., None]
        products = [end * side for end in (least, most) for side in (slopes.low, slopes.high)]
        found = [self._run(np.clip(np.full_like(low, end), low, high)) for end in ends]
        value, slope = (Interval.between(np.min(items, 0), np.max(items, 0)) for items in (found, products))
        gains = Interval.between(least[..., 0], most[..., 0])
        return _Passed(value, slope, np.moveaxis(may, 0, -1), slopes.size * (most - least), gains, possible)

    def _winners(self, values: Interval, slopes: Interval, first: np.ndarray, last: np.ndarray) -> "_Passed":
        # An entry may win where its high end reaches the largest of the low ends.
        middle, radius = self.factor * values.middle[:, self.windows], values.radius[:, self.windows]
        low, entry = (middle - radius).max(-1), np.arange(self.windows.shape[1])
        may = (middle + radius >= low[..., None]) & (entry >= first[..., None]) & (entry <= last[..., None])
        possible = np.asarray(may.any(-1).all(1))
        may |= ~may.any(-1, keepdims=True)
        high = np.maximum(np.where(may, middle + radius, -np.inf).max(-1), low)
        least = np.where(may[..., None], slopes.low[:, self.windows], np.inf).min(2)
        most = np.where(may[..., None], slopes.high[:, self.windows], -np.inf).max(2)
        value = Interval(self.factor * (low + high) / 2, (high - low) / 2)
        loose = (most - least) * (may.sum(-1) > 1)[..., None]
        return _Passed(value, Interval.between(least, most), may, loose, None, possible)

    def _run(self, rows: np.ndarray) -> np.ndarray:
        found = self.step.operator(self.value.from_rows(torch.as_tensor(rows)))
        return self.result.to_rows(found).numpy()

    def _slopes(self, place: float) -> np.ndarray:
        """(K,) the slopes of all units where all entries are at a place."""
        entries = self.value.from_rows(torch.full((1, prod(self.value.units)), place, dtype=torch.float64))
        local = self.step.operator.local([entries], self.step.operator(entries))
        (found, *_) = local.mv([torch.ones_like(entries)])
        if found is None or found.shape != entries.shape:
            raise refusal(self.step, "its units do not each follow one entry", CURE)
        return self.result.to_rows(found)[0].numpy()


class SlopeBounds:
    """Bounds of the slopes of combinations of outputs over boxes, and of their norm."""

    def __init__(self, space: Space, combined: np.ndarray, norm: float) -> None:
        self.norm = norm
        graph = space.graph
        self.levels = levels(graph)
        self.operators = [_Selecting(level, graph) for level in self.levels[:-1]]
        pairs = zip(self.operators, self.levels[:-1], strict=True)
        starts = [graph.inputs, *((operator.number, *level.graph.outputs) for operator, level in pairs)]
        self.affine = [
            _affine(graph, start, level.graph.outputs) for start, level in zip(starts, self.levels, strict=True)
        ]
        matrix, offset = self.affine[-1]
        self.affine[-1] = combined @ matrix, combined @ offset
        self.sizes = [int(np.prod(graph.values[number].units)) for number in graph.inputs]
        self.inputs = graph.inputs
        self.pieces = np.concatenate([np.full(operator.units, operator.count) for operator in self.operators] or [[]])
        self.largest = max(max(matrix.shape) for matrix, _ in self.affine)

    def __call__(self, centers: np.ndarray, halves: np.ndarray, first: np.ndarray, last: np.ndarray) -> Found:
        """Over boxes (boxes, D), with all units on the pieces first to last (boxes, units)."""
        boxes, size = centers.shape
        values = Interval(centers, halves)
        slopes = Interval(np.broadcast_to(np.eye(size), (boxes, size, size)), np.zeros((boxes, size, size)))
        rows: Rows = dict(zip(self.inputs, torch.as_tensor(centers).split(self.sizes, 1), strict=True))
        sides, possible = np.zeros_like(centers), np.ones(boxes, dtype=bool)
        stages: list[Stage] = []
        weights, pieces, begin = [np.zeros((boxes, 0))], [np.zeros((boxes, 0), dtype=np.int64)], 0
        for level, operator, here, ahead in zip(
            self.levels[:-1], self.operators, self.affine[:-1], self.affine[1:], strict=True
        ):
            values, slopes = _through(*here, values), _through(here[0], None, slopes)
            rows = level.run(rows)
            exact = np.concatenate([rows[number].numpy() for number in level.graph.outputs], 1)
            values = _met(values, exact, (slopes.size * halves[:, None]).sum(2))
            units = slice(begin, begin + operator.units)
            own = (_entries(item, operator.place) for item in (values, slopes))
            passed = operator(*own, first[:, units], last[:, units])
            possible &= passed.possible
            if passed.gains is not None:
                stages.append(Stage(operator.place, passed.gains.middle, passed.gains.radius, ahead[0]))
            loose = passed.loose * np.abs(ahead[0][:, : operator.units]).sum(0)[:, None]
            sides += loose.sum(1) * halves
            weights.append(loose.sum(2))
            # Half of the open pieces of a unit are up to this one.
            number = passed.may.cumsum(-1)
            pieces.append((number >= (number[..., -1:] + 1) // 2).argmax(-1))
            begin = units.stop
            values, slopes = _joined(passed.values, values), _joined(passed.slopes, slopes)
        weight, piece = np.concatenate(weights, 1), np.concatenate(pieces, 1)
        unit = weight.argmax(1) if weight.shape[1] else np.zeros(boxes, dtype=np.int64)
        chosen = np.take_along_axis(piece, unit[:, None], 1)[:, 0] if weight.shape[1] else unit
        most = np.full(boxes, np.inf)
        if self.operators and len(stages) == len(self.operators):
            most = norm_bounds(self.affine[0][0], stages, self.norm)
        found = _through(self.affine[-1][0], None, slopes)
        return Found(found, most, possible, sides, (weight > 0).sum(1), unit, chosen)


def _affine(graph: Graph, starts: Sequence[int], outputs: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix and the offset that lead from some values, one after the other, to others."""
    sizes = [int(np.prod(graph.values[number].units)) for number in starts]
    if sum(sizes) > MOST**0.5:
        raise BadInput(
            f"net: bounds of its slopes need matrices of {sum(sizes)} columns, above {MOST**0.5:.0f}; choose a smaller"
            " network, or stop earlier with until="
        )
    part = graph.part(outputs, starts)
    rows = torch.cat([torch.zeros(1, sum(sizes), dtype=torch.float64), torch.eye(sum(sizes), dtype=torch.float64)])
    given = dict(zip(starts, rows.split(sizes, 1), strict=True))
    moved = Level(part, part, None).run(given)
    found = torch.cat([moved[number].double() for number in outputs], 1).numpy()
    return (found[1:] - found[0]).T, found[0]


def _through(matrix: np.ndarray, offset: np.ndarray | None, given: Interval) -> Interval:
    """An affine map of bounds (boxes, K) or, without an offset, of those of slopes (boxes, K, D)."""
    if offset is None:
        middle, radius, size = (matrix @ given.middle, np.abs(matrix) @ given.radius, np.abs(matrix) @ given.size)
    else:
        middle, radius = given.middle @ matrix.T + offset, given.radius @ np.abs(matrix).T
        size = given.size @ np.abs(matrix).T + np.abs(offset)
    return Interval(middle, radius + ROUNDING * size)


def _met(bounds: Interval, exact: np.ndarray, reach: np.ndarray) -> Interval:
    """Bounds, and those within reach of what is exact at the centers, up to its rounding."""
    reach = reach * (1 + ROUNDING) + ROUNDING * bounds.size
    low, high = np.maximum(bounds.low, exact - reach), np.minimum(bounds.high, exact + reach)
    return Interval.between(np.minimum(low, high), np.maximum(low, high))


def _entries(of: Interval, place: slice) -> Interval:
    return Interval(of.middle[:, place], of.radius[:, place])


def _joined(first: Interval, second: Interval) -> Interval:
    return Interval(
        *(np.concatenate(pair, 1) for pair in ((first.middle, second.middle), (first.radius, second.radius)))
    )
