"""What a network is just beyond points, in given directions: its affine map there, and what bounds it.

A walk from region to region always stands on a boundary, where codes are ties. What decides them is the step that is
about to be taken: of everything that is zero at the point, the derivative along the step tells the side. Operators are
followed one after the other, for a later unit's derivative depends on the sides that earlier ones are on.

A region gets a number, its key: each unit has a random 64-bit word per piece, and the words add up. Flipping one unit
then changes the key by a known amount, without a look at the others. Two words make 128 bits: that any two of a million
regions share a key by chance has odds of one to 10^26.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from maxaffine._graph import Comparisons, Graph, Linearization
from maxaffine._partition.planes.levels import Level, Rows, differences, levels
from maxaffine._partition.planes.task import Frame

NEAR = 1e-12  # of the box, and of an operator's largest value: what is nearer to a boundary counts as on it
PROBES = 64
RUN = 2**19  # margins that are worked on at once
FAR = 8 * float(np.finfo(np.float64).eps)  # rounding of a value, relative to it


@dataclass(frozen=True, eq=False)
class Germs:
    """The affine maps of regions, one per point, and their sides: margins that are not negative in the region."""

    # A column per comparison of a unit, per entry of a group that could win, and per side of the box (the last six).
    # What can never be reached, such as the winner's own entry, has an infinite margin and no slope.
    margins: np.ndarray  # (N, M) at the points
    slopes: np.ndarray  # (3, N, M) along the axes
    near: np.ndarray  # (N, M) margins up to this count as zero
    above: np.ndarray  # (N, M) bool: the first side of a comparison is larger, an entry wins
    keys: np.ndarray  # (N, 2) of the regions
    value: np.ndarray  # (N,) of the output, less the level, at the points
    gradient: np.ndarray  # (3, N)
    words: Words

    def __getitem__(self, rows: np.ndarray) -> Germs:
        """Some of them."""
        rest = (self.margins, self.near, self.above, self.keys, self.value)
        margins, near, above, keys, value = (item[rows] for item in rest)
        return Germs(margins, self.slopes[:, rows], near, above, keys, value, self.gradient[:, rows], self.words)

    def put(self, rows: np.ndarray, others: Germs) -> None:
        """Replace some of them."""
        for name in ("margins", "near", "above", "keys", "value"):
            getattr(self, name)[rows] = getattr(others, name)
        self.slopes[:, rows], self.gradient[:, rows] = others.slopes, others.gradient

    def change(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, 2) what keys change by where margins become zero."""
        own = np.where(self.above[rows, columns, None], self.words.pieces[columns], 0)
        return self.words.ties[columns] - own

    def beyond(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, 2) keys of the regions beyond margins: a comparison turns out otherwise, or another entry wins."""
        pieces, (first, count) = self.words.pieces, self.words.groups[columns].T
        places = first[:, None] + np.minimum(np.arange(count.max(initial=1)), count[:, None] - 1)
        winner = places[np.arange(len(rows)), self.above[rows[:, None], places].argmax(1)]
        above = self.above[rows, columns]
        # Of a comparison the group is its own column.
        own = np.where((above | (count > 1))[:, None], pieces[winner], 0)
        return self.keys[rows] - own + np.where(above[:, None], 0, pieces[columns])


@dataclass(frozen=True, eq=False)
class Words:
    """The random words that the keys of regions and corners are sums of."""

    start: np.ndarray  # (2,) of every region: no key is zero but by chance
    pieces: np.ndarray  # (M, 2) where a comparison finds its first side larger, or an entry wins
    ties: np.ndarray  # (M, 2) where both sides are equal, or the entry draws level with the winner
    groups: np.ndarray  # (M, 2) the first of the columns among which an entry wins, and how many they are


class Field:
    """One output of a network, less a level, over a box of coordinates t in three dimensions."""

    def __init__(self, frame: Frame, graph: Graph, output: int, level: float, box: tuple[np.ndarray, np.ndarray]):
        self.frame, self.output, self.level = frame, output, level
        self.levels = levels(graph)
        # Points count from the middle of the box: far from zero the coordinates themselves have fewer digits.
        self.center = (box[0] + box[1]) / 2
        self.box = (box[0] - self.center, box[1] - self.center)
        self.size = float(np.linalg.norm(self.box[1] - self.box[0]))
        self.rounding = FAR * float(np.abs(box).max()) / self.size
        self._inputs = {number: graph.values[number] for number in graph.inputs}
        self._number = graph.outputs[0]
        random = np.random.default_rng(0)
        places = self.center + random.uniform(*self.box, (PROBES, 3))
        self._middle, self._slopes = self._affine()
        # The largest value that each operator compares in the box, by which its rounding is measured, and what more of
        # it there is where larger values cancel.
        self._scales: list[float] = []
        self._noise: list[float] = []
        self._widths: list[int] = []  # columns of each level
        rows = self._rows(places)
        for item in self.levels:
            before, rows = rows, item.run(rows)
            noise = _noise(item, before, rows) if item is not self.levels[0] else 0.0
            if item.step is not None:
                sizes, width = _sizes(item, rows)
                self._scales.append(sizes)
                self._noise.append(noise)
                self._widths.append(width)
        value = self.values(places)
        self.scale = float(np.abs(value).max())
        self._off = float(np.abs(self.values(places * (1 + FAR * random.uniform(-1, 1, places.shape))) - value).max())
        self.units = sum(self._widths)
        self.words = self._draw_words(random)

    def _draw_words(self, random: np.random.Generator) -> Words:
        """Words for all columns."""
        pieces, ties = random.integers(2**64, size=(2, self.units + 6, 2), dtype=np.uint64)
        pieces[self.units :] = 0
        groups = np.stack([np.arange(self.units + 6), np.ones(self.units + 6, dtype=np.int64)], 1)
        start = 0
        for level, width in zip(self.levels, self._widths, strict=False):
            if not isinstance(level.boundaries, Comparisons):
                # Where entries draw level any of them may be the winner, so each adds what it adds as the winner.
                columns = slice(start, start + width)
                ties[columns] = pieces[columns]
                count = level.windows.shape[1]
                groups[columns] = np.stack([start + np.arange(width) // count * count, np.full(width, count)], 1)
            start += width
        return Words(random.integers(2**64, size=2, dtype=np.uint64), pieces, ties, groups)

    def at(self, points: np.ndarray, directions: np.ndarray, then: np.ndarray | None = None) -> Germs:
        """The regions just beyond points (N, 3) in directions, with slopes along the axes."""
        # What does not change along the directions is decided by a step far shorter in others, ``then``.
        count = len(points)
        given = [directions, *([] if then is None else [then])]
        ways = [torch.from_numpy(way.T) for way in given]
        at = self.start(points)
        moved = [{n: rows[axis].expand(count, -1) for n, rows in self._slopes.items()} for axis in range(3)]
        margins = torch.empty(count, self.units + 6, dtype=torch.float64)
        near, above = torch.empty_like(margins), torch.zeros(margins.shape, dtype=torch.bool)
        slopes = torch.empty(3, *margins.shape, dtype=torch.float64)
        ahead, start = at, 0
        for place, level in enumerate(self.levels):
            if place:
                graph = level.graph
                local = Linearization(graph, [graph.values[n].from_rows(ahead[n]) for n in graph.inputs])
                at, *moved = (
                    _pushed(graph, local, rows, offset)
                    for rows, offset in zip((at, *moved), (True, *[False] * len(moved)), strict=True)
                )
            if level.step is None:
                break
            columns = slice(start, start + self._widths[place])
            start = columns.stop
            found = self._sides(level, self._scales[place] + self._noise[place] / NEAR, at, moved, ways)
            margins[:, columns], slopes[:, :, columns] = found.margins, found.slopes
            near[:, columns], above[:, columns] = found.near, found.above
            ahead = _ahead(at, moved, ways, self.size, found)
        self._box_sides(points, margins.numpy(), slopes.numpy())
        near[:, self.units :] = 2 * NEAR * self.size
        value = self.output_of(at)
        gradient = np.stack([item[self._number][:, self.output].numpy() for item in moved])
        keys = above.numpy().view(np.uint8).astype(np.uint64) @ self.words.pieces + self.words.start
        return Germs(margins.numpy(), slopes.numpy(), near.numpy(), above.numpy(), keys, value, gradient, self.words)

    def start(self, points: np.ndarray) -> Rows:
        """The first level's values at points (N, 3)."""
        t = torch.from_numpy(points)
        return {
            n: rows + t @ self._slopes[n] if rows.is_floating_point() else rows.expand(len(points), -1)
            for n, rows in self._middle.items()
        }

    def output_of(self, rows: Rows) -> np.ndarray:
        """(N,) the output less the level, of the last level's values."""
        return rows[self._number][:, self.output].numpy() - self.level

    def values(self, points: np.ndarray) -> np.ndarray:
        """(N,) the output less the level at points (N, 3) as the network has them, by running it."""
        rows = self._rows(points)
        for level in self.levels:
            rows = level.run(rows)
        return self.output_of(rows)

    def tolerance(self, share: float) -> float:
        """A share of the largest value that the output takes, and what rounding of the coordinates adds to it."""
        return share * self.scale + self._off

    def seen(self, point: np.ndarray) -> tuple[float, ...]:
        """A point as the user knows it."""
        return tuple((point + self.center).tolist())

    def _affine(self) -> tuple[Rows, Rows]:
        """What leads to the first operator: the values in the middle of the box, and their slopes (3, K)."""
        graph = self.levels[0].graph
        middle = self._rows(np.repeat(self.center[None], 3, 0))  # as many as there are directions
        local = Linearization(graph, [graph.values[n].from_rows(middle[n]) for n in graph.inputs])
        basis = zip(graph.inputs, self.frame.basis, strict=True)
        slopes = _pushed(graph, local, {n: graph.values[n].to_rows(item).double() for n, item in basis}, False)
        return {n: rows[:1] for n, rows in self.levels[0].run(middle).items()}, slopes

    def _rows(self, t: np.ndarray) -> Rows:
        """The network's inputs at coordinates (N, 3)."""
        found = self.frame.points(torch.from_numpy(np.ascontiguousarray(t)))
        return {n: value.to_rows(item) for (n, value), item in zip(self._inputs.items(), found, strict=True)}

    def _box_sides(self, points: np.ndarray, margins: np.ndarray, slopes: np.ndarray) -> None:
        """Fill the last six columns: the distances to the sides of the box."""
        (low, high), axes = self.box, np.eye(3)[:, None]
        margins[:, self.units : self.units + 3], margins[:, self.units + 3 :] = points - low, high - points
        slopes[..., self.units : self.units + 3], slopes[..., self.units + 3 :] = axes, -axes

    def _sides(self, level: Level, scale: float, at: Rows, moved: list[Rows], ways: list[Tensor]) -> Sides:
        """Margins, slopes, thresholds and sides of one operator's columns."""
        if isinstance(level.boundaries, Comparisons):
            gap, slopes = gaps(level, at, moved)
            near = NEAR * (slopes.square().sum(0).sqrt_().mul_(self.size) + scale)
            # The first of the value and its rates that is not zero decides; of what stays zero, the lower piece counts.
            side, found = gap, []
            for way in ways:
                found.append(rates(way, slopes))
                side = torch.where(side.abs() <= near, found[-1] * self.size, side)
                if not (side.abs() <= near).any():
                    break
            above = side > near
            sign = torch.where(above, 1.0, -1.0)
            return Sides(gap * sign, slopes.mul_(sign), near, above, [rate.mul_(sign) for rate in found])
        windows, factor = torch.from_numpy(level.windows), level.boundaries.factor  # type: ignore[union-attr]
        scores = factor * level.entries(at)[:, windows]
        slopes = torch.stack([factor * level.entries(rows)[:, windows] for rows in moved])
        near = NEAR * (slopes.square().sum(0).sqrt().amax(-1, keepdim=True) * self.size + scale)
        # Of those that tie for the largest the steepest wins, and of these the first.
        tied = scores >= scores.amax(-1, keepdim=True) - near
        found = []
        for way in ways:
            found.append(rates(way, slopes))
            best = found[-1].masked_fill(~tied, -torch.inf).amax(-1, keepdim=True)
            tied &= (found[-1] - best) * self.size >= -near
        winner = tied.byte().argmax(-1, keepdim=True)
        # Neither the winner itself nor an entry that stands in for what a window lacks ever takes its place.
        repeats = (windows[:, :, None] == windows[:, None, :]).tril(-1).any(-1)
        never = repeats | (windows == windows.expand(scores.shape).gather(-1, winner))
        margins = (scores.gather(-1, winner) - scores).masked_fill(never, torch.inf)
        slopes, *found = (
            (item.gather(-1, winner.expand(*item.shape[:-1], 1)) - item).masked_fill(never, 0)
            for item in (slopes, *found)
        )
        above = torch.zeros_like(never).scatter(-1, winner, True)
        near = near.expand_as(margins)
        margins, slopes, near, above = (item.flatten(-2) for item in (margins, slopes, near, above))
        return Sides(margins, slopes, near, above, [rate.flatten(1) for rate in found])


@dataclass(frozen=True, eq=False)
class Sides:
    """The columns of one operator, as of :class:`Germs`."""

    margins: Tensor  # (N, m)
    slopes: Tensor  # (T, N, m)
    near: Tensor  # (N, m)
    above: Tensor  # (N, m)
    rates: list[Tensor]  # (N, m) of the margins along the step that decided, and along the shorter one if there was any


def rates(way: Tensor, slopes: Tensor | Sequence[Tensor]) -> Tensor:
    """Rates (N, ...) along steps (T, N), of slopes along the tangents."""
    shape = (-1, *[1] * (slopes[0].dim() - 1))
    rate = slopes[0] * way[0].view(shape)
    for slope, share in zip(slopes[1:], way[1:], strict=True):
        rate.addcmul_(slope, share.view(shape))
    return rate


def _pushed(graph: Graph, local: Linearization, rows: Rows, offset: bool) -> Rows:
    """Rows through the affine map of a stretch of the network."""
    found = local.push([graph.values[n].from_rows(rows[n]) for n in graph.inputs], offset)
    return {n: graph.values[n].to_rows(item) for n, item in zip(graph.outputs, found, strict=True)}


def gaps(level: Level, at: Rows, moved: Sequence[Rows]) -> tuple[Tensor, Tensor]:
    """What an operator compares, first less second side: (N, m) at points, and slopes (T, N, m) along tangents."""
    boundaries, graph = level.boundaries, level.operands
    value = graph.values[level.step.result]  # type: ignore[union-attr]
    # All at once: at zero, at the points, and along every tangent as from there.
    count = len(next(iter(at.values())))
    rows = {
        n: torch.cat([torch.zeros_like(item[:1]), item, *(way[n].to(item.dtype) for way in moved)])
        for n, item in at.items()
    }
    inputs = graph.run([graph.values[n].from_rows(rows[n]) for n in graph.inputs])
    shape = value.from_rows(torch.empty(1 + (1 + len(moved)) * count, prod(value.units))).shape
    pairs = boundaries.pairs(inputs)  # type: ignore[union-attr]
    found = [value.to_rows(pair.difference().expand(shape)) for pair in pairs]
    joined = found[0] if len(found) == 1 else torch.cat(found, 1)
    still, gap, slopes = joined.split([1, count, len(moved) * count])
    return gap, slopes.sub(still).reshape(len(moved), count, gap.shape[1])


def _noise(level: Level, before: Rows, rows: Rows) -> float:
    """How far rounding of the values of the level before moves what is compared after a level."""
    generator = torch.Generator().manual_seed(0)
    shaken = {
        n: item * (1 + FAR * (2 * torch.rand(item.shape, generator=generator, dtype=torch.float64) - 1))
        if item.is_floating_point()
        else item
        for n, item in before.items()
    }
    pairs = zip(_compared(level, level.run(shaken)), _compared(level, rows), strict=True)
    return max(float((a - b).abs().nan_to_num(0, 0, 0).max()) for a, b in pairs)


def _compared(level: Level, rows: Rows) -> list[Tensor]:
    """What the operator after a level compares, (V, K); the outputs after the last."""
    if level.step is None:
        return list(rows.values())
    if isinstance(level.boundaries, Comparisons):
        return [torch.from_numpy(gap) for gap, _ in differences(level, rows)]
    return [level.entries(rows)]


def _sizes(level: Level, rows: Rows) -> tuple[float, int]:
    """The largest value that the operator after a level compares, and how many columns it has."""
    if isinstance(level.boundaries, Comparisons):
        found = differences(level, rows)
        return max(float(size.max()) for _, size in found), sum(gap.shape[1] for gap, _ in found)
    entries = level.entries(rows)
    return float(entries[entries.isfinite()].abs().max()), prod(level.windows.shape)


def _ahead(at: Rows, moved: list[Rows], ways: list[Tensor], size: float, sides: Sides) -> Rows:
    """Values a step beyond the points that keeps to the region: there the operator is on its pieces in the region."""
    margins, found = sides.margins, at
    for way, rate in zip(ways, sides.rates, strict=False):
        # Half of the way to the first boundary ahead; what is zero at the points only grows, or stays as it is.
        reach = torch.where((rate < 0) & (margins > sides.near), margins / -rate, 2 * size)
        step = reach.amin(1).clamp(max=2 * size) / 2 if reach.shape[1] else reach.new_ones(len(reach))
        margins = torch.addcmul(margins, rate, step[:, None])
        moving = {n for n, item in at.items() if item.is_floating_point()}
        found = {
            n: item + rates(way * step, [rows[n] for rows in moved]) if n in moving else item
            for n, item in found.items()
        }
    return found
