"""Bounds of all slopes that a network has somewhere in a box: intervals that are passed on from level to level.

Between two operators with pieces everything is affine, one matrix W. Bounds of values and slopes, as middles and radii,
go through it as W m and |W| r. At an operator a unit has the slopes of all pieces that its bounds leave open. What a
box is known for its slopes bounds its values again, from the value at its center on (the mean value theorem), which is
the closer the smaller the box is. Every rounding is added to the radii.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch

from maxaffine._graph import Comparisons, Contest, Graph, Knots
from maxaffine._partition.inputs import known_boundaries, refusal
from maxaffine._partition.planes.levels import Level, Rows, levels
from maxaffine._partition.space.halfspaces import Space
from maxaffine._partition.space.norms import Stage, norm_bounds
from maxaffine.errors import BadInput

ROUNDING = 1e-13  # of the sum of all magnitudes in a product of matrices; for up to some 500 terms each
ENDLESS = 1e100  # in place of what a mask has put at infinity
DRAWS = 8  # at which what a unit selects is compared with what the operator gives
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

    def __getitem__(self, at: Any) -> "Interval":
        return Interval(self.middle[at], self.radius[at])

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
class _Box:
    """Boxes with the pieces of an operator's units that are left, and what is known of the values before it."""

    values: Interval  # (boxes, V)
    slopes: Interval  # (boxes, V, D)
    first: np.ndarray  # (boxes, K) the first piece that is left
    last: np.ndarray  # (boxes, K) and the last
    halves: np.ndarray  # (boxes, D)
    exact: np.ndarray | None  # (boxes, V) the values at the centers; None where pieces are ruled out
    may: np.ndarray | None  # (boxes, K, pieces) which pieces are open where none is ruled out


@dataclass(frozen=True, eq=False)
class _Passed:
    """What an operator makes of bounds."""

    values: Interval  # (boxes, K)
    slopes: Interval  # (boxes, K, D)
    may: np.ndarray  # (boxes, K, pieces) which pieces are open
    loose: np.ndarray  # (boxes, K, D) how much its open pieces differ
    middle: np.ndarray  # (boxes, K, m) of the slopes of units in their entries
    spread: np.ndarray  # (boxes, K, r, m) off which they are by combinations of these rows, of length one at most
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


class Selecting:
    """An operator with pieces, as it acts on bounds: each unit follows one entry, or selects one of several."""

    def __init__(self, level: Level, graph: Graph) -> None:
        if level.step is None:
            raise TypeError("no operator follows the last level")
        self.level, self.step, self.number = level, level.step, level.step.result
        self.result, alive = graph.values[self.number], level.graph.outputs
        self.units, self.sizes = prod(self.result.units), [prod(graph.values[n].units) for n in alive]
        boundaries, number = known_boundaries(level.step), level.step.inputs[0]
        if self.number != level.step.outputs[0]:
            raise refusal(level.step, "how far the slopes of its later outputs reach is not known", CURE)
        if not isinstance(boundaries, Knots):
            self._read_entries(boundaries)
            self.bounds = self._winners
        elif number in alive and len(level.step.inputs) == 1:
            begin = sum(self.sizes[: alive.index(number)])
            self.value, self.knots = graph.values[number], boundaries.knots
            self.windows, self.count = begin + np.arange(self.units)[:, None], len(self.knots) + 1
            inner = [(a + b) / 2 for a, b in pairwise(self.knots)]
            self.pieces = [self._slopes(place) for place in (self.knots[0] - 1, *inner, self.knots[-1] + 1)]
            self.bounds = self._knots
        else:
            raise refusal(level.step, "what it compares does not follow from one value", CURE)

    def __call__(self, box: _Box) -> _Passed:
        """What it makes of values and slopes, on the pieces that are left."""
        return self.bounds(box)

    def _knots(self, box: _Box) -> _Passed:
        followed = self.windows[:, 0]
        values, slopes, first, last = box.values[:, followed], box.slopes[:, followed], box.first, box.last
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
        gains = Interval.between(least, most)
        loose = slopes.size * (most - least)
        return _Passed(value, slope, np.moveaxis(may, 0, -1), loose, gains.middle, gains.radius[..., None], possible)

    def _read_entries(self, boundaries: Comparisons | Contest) -> None:
        """Which entries, or constants, each unit selects from, and which of them by rank it takes."""
        # Numbers in place of values tell where an entry comes from: it grows by one with them if it is one of them.
        numbers = torch.arange(sum(self.sizes), dtype=torch.float64)
        first, second = self._entries(boundaries, numbers), self._entries(boundaries, numbers + 1)
        self.there = np.isfinite(first) & (second == first + 1)
        self.windows = np.where(self.there, first, 0).astype(np.int64)
        self.held, self.count = np.where(self.there, 0.0, first), first.shape[1]
        plain = bool((self.there | (first == second)).all()) and bool((np.isfinite(first).any(1)).all())
        factor = boundaries.factor if isinstance(boundaries, Contest) else None
        for seed in range(DRAWS):
            draw = torch.randn(len(numbers), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            entries, value = self._entries(boundaries, draw), self._at(draw)[:, None]
            # Of a comparison the first draw tells whether a unit takes the larger entry; the others must agree.
            if seed == 0:
                larger = np.isclose(entries.max(1, keepdims=True), value, 0, 0)
                self.factor = np.full((self.units, 1), factor) if factor else np.where(larger, 1, -1)
                self.ranks = (self.factor * entries > self.factor * value).sum(1).clip(max=self.count - 1)
            ranked = -np.sort(-self.factor * entries, 1)
            plain &= np.array_equal(np.take_along_axis(ranked, self.ranks[:, None], 1), self.factor * value)
        if not plain:
            raise refusal(self.step, "its units are not each one of the entries that it compares", CURE)
        self.held = np.where(self.there, 0, self.factor * self.held)

    def _given(self, row: torch.Tensor) -> list[Any]:
        """The operator's inputs where the values before it are a row (V,)."""
        graph, parts = self.level.operands, row[None].split(self.sizes, 1)
        values = dict(zip(self.level.graph.outputs, parts, strict=True))
        return graph.run([graph.values[n].from_rows(values[n]) for n in graph.inputs])

    def _at(self, row: torch.Tensor) -> np.ndarray:
        """(K,) the operator's first output."""
        found = self.step.operator(*self._given(row))
        return self.result.to_rows(found[0] if isinstance(found, tuple | list) else found)[0].double().numpy()

    def _entries(self, boundaries: Comparisons | Contest, row: torch.Tensor) -> np.ndarray:
        """(K, m) what each unit selects from; minus infinity times the factor what is missing."""
        inputs = self._given(row)
        if isinstance(boundaries, Contest):
            found = boundaries.entries(inputs[0].double())
        else:
            sides = [side for pair in boundaries.pairs(inputs) for side in (pair.first, pair.second)]
            found = torch.stack(torch.broadcast_tensors(*(torch.as_tensor(s, dtype=torch.float64) for s in sides)), -1)
        if found[..., 0].numel() != self.units:  # groups that units share
            found = found.expand(1, *self.result.units, found.shape[-1])
        return found.reshape(self.units, -1).cpu().numpy()

    def _picked(self, of: np.ndarray) -> np.ndarray:
        """Magnitudes of all values as those of what units select from, zero of constants."""
        there = self.there.reshape(*self.there.shape, *[1] * (of.ndim - 2))
        return np.where(there, of[:, self.windows], 0)

    def _winners(self, box: _Box) -> _Passed:
        middle = np.where(self.there, self.factor * self._picked(box.values.middle), self.held)
        radius, entry = self._picked(box.values.radius), np.arange(self.count)
        low, high = middle - radius, middle + radius
        # Of some rank is a value between what the lows and what the highs have of that rank.
        least, most = (-np.take_along_axis(np.sort(-side), self.ranks[None, :, None], 2) for side in (low, high))
        real = np.isfinite(middle)
        may = real & (high >= least) & (low <= most) & (entry >= box.first[..., None]) & (entry <= box.last[..., None])
        steep = Interval(self._picked(box.slopes.middle), self._picked(box.slopes.radius))
        if box.exact is not None:
            may &= (self.ranks > 0)[:, None] | self._ahead(box, middle, radius, steep)
        elif box.may is not None:
            may &= box.may
        possible = np.all(may.any(-1), 1)
        may |= real & ~may.any(-1, keepdims=True)
        low = np.maximum(least[..., 0], np.where(may, low, np.inf).min(-1))
        high = np.maximum(np.minimum(most[..., 0], np.where(may, high, -np.inf).max(-1)), low)
        value = Interval(self.factor[:, 0] * (low + high) / 2, (high - low) / 2)
        lowest = np.where(may[..., None], steep.low, np.inf).min(2)
        highest = np.where(may[..., None], steep.high, -np.inf).max(2)
        count = may.sum(-1)[..., None]
        share = may / count
        # Off the mean of n entries, each of them is by a combination of length sqrt(1 - 1/n) of all that they are off.
        off = may[..., None] * (np.eye(self.count) - share[..., None, :]) * np.sqrt(1 - 1 / count)[..., None]
        loose = (highest - lowest) * (count > 1)
        there = self.there
        return _Passed(
            value, Interval.between(lowest, highest), may, loose, share * there, off * there[:, None], possible
        )

    def _ahead(self, box: _Box, middle: np.ndarray, radius: np.ndarray, steep: Interval) -> np.ndarray:
        """(boxes, K, m) which entries may be as large as the one that is largest at the center."""
        # Entries that move alike keep their order, however far they move: their difference has its own slopes.
        exact = np.where(self.there, self.factor * self._picked(box.exact), self.held)  # type: ignore[arg-type]
        best = exact.argmax(-1)[..., None]
        middles = np.abs(steep.middle - np.take_along_axis(steep.middle, best[..., None], 2))
        radii = steep.radius + np.take_along_axis(steep.radius, best[..., None], 2)
        reach = ((middles + radii) * box.halves[:, None, None]).sum(-1)
        size = np.where(np.isfinite(middle), np.abs(middle) + radius, 0)
        slack = ROUNDING * (size + np.take_along_axis(size, best, 2) + reach)
        return exact + reach + slack >= np.take_along_axis(exact, best, 2)

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
        self.levels = levels(graph, sorts=True)
        self.operators = [Selecting(level, graph) for level in self.levels[:-1]]
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
        # Numbers in the largest matrix of each operator for one box: all that its units select from, in all values.
        spread = [prod(o.windows.shape) * max(sum(o.sizes), len(self.affine[0][0].T)) for o in self.operators]
        self.normed = max(spread, default=0) <= MOST
        self.largest = max(*(max(matrix.shape) for matrix, _ in self.affine), int(max(spread, default=0) ** 0.5))

    def __call__(self, centers: np.ndarray, halves: np.ndarray, first: np.ndarray, last: np.ndarray) -> Found:
        """Over boxes (boxes, D), with all units on the pieces first to last (boxes, units)."""
        known: list[tuple[Interval, np.ndarray | None]] = []
        if (first > 0).any() or (last < self.pieces - 1).any():
            # Pieces that are ruled out leave a part of a box, in which the way from the center need not lie. So what
            # follows from the center is found for whole boxes, in which it holds, and so for any part of them.
            boxes, at = np.unique(np.concatenate([centers, halves], 1), axis=0, return_inverse=True)
            nothing = np.zeros((len(boxes), len(self.pieces)), dtype=np.int64)
            middles, sizes = np.split(boxes, 2, 1)
            whole = [*self._levels(middles, sizes, nothing, nothing + self.pieces.astype(np.int64) - 1, None)]
            known = [(box.values[at.ravel()], passed.may[at.ravel()]) for box, passed in whole]
        found = [*self._levels(centers, halves, first, last, known or None)]
        return self._summed(found, halves)

    def _levels(
        self,
        centers: np.ndarray,
        halves: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
        known: list[tuple[Interval, np.ndarray | None]] | None,
    ) -> Iterator[tuple[_Box, _Passed]]:
        """What is known before each operator, and what it makes of that."""
        boxes, size = centers.shape
        values, slopes = Interval(centers, halves), _eye(boxes, size)
        rows: Rows = dict(zip(self.inputs, torch.as_tensor(centers).split(self.sizes, 1), strict=True))
        begin = 0
        for place, (level, operator) in enumerate(zip(self.levels[:-1], self.operators, strict=True)):
            values, slopes = _through(*self.affine[place], values), _through(self.affine[place][0], None, slopes)
            exact, may = None, None
            if known is None:
                rows = level.run(rows)
                exact = np.concatenate([rows[number].numpy() for number in level.graph.outputs], 1)
                exact = exact.clip(-ENDLESS, ENDLESS)
                values = _met(values, exact, (slopes.size * halves[:, None]).sum(2))
            else:
                whole, may = known[place]
                low, high = np.maximum(values.low, whole.low), np.minimum(values.high, whole.high)
                values = Interval.between(np.minimum(low, high), np.maximum(low, high))
            units = slice(begin, begin + operator.units)
            box = _Box(values, slopes, first[:, units], last[:, units], halves, exact, may)
            passed = operator(box)
            yield box, passed
            begin = units.stop
            values, slopes = _joined(passed.values, values), _joined(passed.slopes, slopes)

    def _summed(self, found: list[tuple[_Box, _Passed]], halves: np.ndarray) -> Found:
        """The slopes of the outputs, and which unit matters most."""
        boxes, size = halves.shape
        sides, possible, slopes = np.zeros_like(halves), np.ones(boxes, dtype=bool), _eye(boxes, size)
        weights, pieces = [np.zeros((boxes, 0))], [np.zeros((boxes, 0), dtype=np.int64)]
        stages: list[Stage] = []
        for operator, (box, passed), (ahead, _) in zip(self.operators, found, self.affine[1:], strict=True):
            possible &= passed.possible
            loose = passed.loose * np.abs(ahead[:, : operator.units]).sum(0)[:, None]
            sides += loose.sum(1) * halves
            weights.append(loose.sum(2))
            # Half of the open pieces of a unit are up to this one.
            number = passed.may.cumsum(-1)
            pieces.append((number >= (number[..., -1:] + 1) // 2).argmax(-1))
            stages.append(Stage(operator.windows, passed.middle, passed.spread, ahead))
            slopes = _joined(passed.slopes, box.slopes)
        weight, piece = np.concatenate(weights, 1), np.concatenate(pieces, 1)
        unit = weight.argmax(1) if weight.shape[1] else np.zeros(boxes, dtype=np.int64)
        chosen = np.take_along_axis(piece, unit[:, None], 1)[:, 0] if weight.shape[1] else unit
        most = np.full(boxes, np.inf)
        if stages and self.normed:
            most = norm_bounds(self.affine[0][0], stages, self.norm)
        slopes = _through(self.affine[-1][0], None, slopes)
        return Found(slopes, most, possible, sides, (weight > 0).sum(1), unit, chosen)


def _eye(boxes: int, size: int) -> Interval:
    """The slopes of the inputs themselves."""
    return Interval(np.broadcast_to(np.eye(size), (boxes, size, size)), np.zeros((boxes, size, size)))


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
    found = torch.cat([moved[number].double() for number in outputs], 1).numpy().clip(-ENDLESS, ENDLESS)
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


def _joined(first: Interval, second: Interval) -> Interval:
    return Interval(
        *(np.concatenate(pair, 1) for pair in ((first.middle, second.middle), (first.radius, second.radius)))
    )
