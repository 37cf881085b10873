"""The subdivision of a line, layer by layer and depth first: blocks of finished pieces in the order of the line.

As on a plane, pieces whose values would not fit in memory go through the rest of the network in blocks, one after the
other. Unlike on a plane, blocks have an order: they finish from left to right, so that a progress bar can follow them
and whoever wants the first thousand pieces need not wait for the others.

Cutting a piece must not run the network again: its values at a new vertex lie on the line between those at its ends. A
network that jumps has two values at a vertex, one for either side, so its pieces carry their own: the value in the
middle and the slope, which the network's affine map pushes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._graph import BatchAxis, Dependence, Graph, Knots, Step, Value, as_rows, as_tuple
from maxaffine._network import size, without_infinities
from maxaffine._partition.inputs import known_boundaries, refusal
from maxaffine._partition.lines.cuts import cuts
from maxaffine._partition.lines.segment import Segment

TEMPORARIES = 8  # tensors as large as the largest value that one step holds at a time


@dataclass(frozen=True)
class Strip:
    """All values that later steps read, on the pieces between ``t``; samples first."""

    # A continuous network needs its values at the vertices alone: a vertex shared by two pieces is one row. A network
    # that jumps has one row per piece, the value at the middle, and its slope along the line.
    t: Tensor  # (pieces + 1,) vertices, increasing
    values: dict[int, Tensor]  # by number, (pieces + 1, *units) at the vertices, or (pieces, *units) at the middles
    slopes: dict[int, Tensor] | None  # by number, (pieces, *units) d value / dt; None for a continuous network

    @property
    def rows(self) -> int:
        """Samples in a batch of these values."""
        return len(self.t) - (self.slopes is not None)

    def side(self, number: int, which: int) -> Tensor:
        """A value's limits at the left (-1), the middle (0) or the right (1) of every piece: (pieces, *units)."""
        value = self.values[number]
        if self.slopes is None:
            return (value[:-1] + value[1:]) / 2 if which == 0 else value[:-1] if which < 0 else value[1:]
        if which == 0 or number not in self.slopes:
            return value
        half = _rows((self.t[1:] - self.t[:-1]) / 2, value)
        return value + which * half * self.slopes[number]

    def refined(self, t: Tensor) -> Strip:
        """The same on finer pieces: vertices ``t`` within the range of this strip, its own among them."""
        if torch.equal(t, self.t):
            return self
        if self.slopes is None:
            # The last vertex starts no piece: it lies at the end of the last one.
            place = (torch.searchsorted(self.t, t, right=True) - 1).clamp(max=len(self.t) - 2)
            weight = (t - self.t[place]) / (self.t[place + 1] - self.t[place])
            return replace(self, t=t, values={n: _between(v, place, weight) for n, v in self.values.items()})
        middles = (t[:-1] + t[1:]) / 2
        place = torch.searchsorted(self.t, middles, right=True) - 1
        ahead = middles - (self.t[place] + self.t[place + 1]) / 2
        slopes = {number: slope[place] for number, slope in self.slopes.items()}
        values = {number: value[place] for number, value in self.values.items()}
        values |= {n: values[n] + _rows(ahead, slope) * slope for n, slope in slopes.items()}
        return Strip(t, values, slopes)


def _rows(per_row: Tensor, like: Tensor) -> Tensor:
    """A number per row, shaped to be multiplied with the rows of another tensor."""
    return per_row.view(-1, *([1] * (like.dim() - 1)))


def _between(value: Tensor, place: Tensor, weight: Tensor) -> Tensor:
    """Values between the vertices at places and the next."""
    low = value[place]
    found = torch.lerp(low, value[place + 1], _rows(weight, value))
    if found.sum().isnan():  # a constant of infinity
        found = torch.where(low.isinf(), low, found)
    return found


class Track:
    """A graph in float64 followed along a line: which values are kept, and how one step is taken."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        # A value is held until the last step that reads it; those that move with no input, not at all.
        self.last_use = {number: place for place, step in enumerate(graph.steps) for number in step.inputs}
        self.last_use |= dict.fromkeys(graph.outputs, len(graph.steps))
        self.held_steps = [s for s in graph.steps if not self._dependent(s)]
        read = {n for step in graph.steps for n in step.inputs} | set(graph.outputs)
        # A step may jump itself, or read what is constant in each region, as an index is, and so jumps between them.
        jumps = any(not record.continuous for step in graph.steps for record in step.records)
        regions = any(graph.values[number].dependence is Dependence.REGION for number in read - set(graph.inputs))
        self.continuous = not jumps and not regions

    def _dependent(self, step: Step) -> bool:
        return any(n is not None and self.graph.values[n].dependence is not Dependence.CONSTANT for n in step.outputs)

    def start(self, t: Tensor, points: tuple[Tensor, ...], direction: tuple[Tensor, ...]) -> Strip:
        """The strip of the network's inputs: at the vertices, or at the middles with their slopes."""
        values, slopes = (
            {n: self.axis(n).to_front(x) for n, x in zip(self.graph.inputs, tensors, strict=True)}
            for tensors in (points, direction)
        )
        moving = {number: slope for number, slope in slopes.items() if slope.is_floating_point()}
        return Strip(t, values, None if self.continuous else moving)

    def axis(self, number: int) -> BatchAxis:
        """Where a value keeps its samples."""
        return self.graph.values[number].batch or BatchAxis()

    def placed(self, number: int, front: Tensor) -> Tensor:
        """A value (rows, *units) in its own layout."""
        value = self.graph.values[number]
        return self.axis(number).from_front(front, _layout(value, front.shape[0]))

    def held(self, rows: int) -> dict[int, Any]:
        """Values that depend on the number of samples alone."""
        found: dict[int, Any] = {}
        for step in self.held_steps:
            for number in step.inputs:
                value = self.graph.values[number]
                if number not in found:  # only its size is read
                    found[number] = torch.zeros((), dtype=value.dtype).expand(_layout(value, rows))
            step.run(found)
        return found

    def arguments(self, step: Step, strip: Strip, held: dict[int, Any], which: int | None = None) -> list[Any]:
        """A step's inputs in their own layout: its rows, or a side of every piece (see :meth:`Strip.side`)."""
        moving = [number for number in step.inputs if number in strip.values]
        fronts = {number: strip.values[number] if which is None else strip.side(number, which) for number in moving}
        return [self.placed(number, fronts[number]) if number in fronts else held[number] for number in step.inputs]

    def take(self, place: int, strip: Strip, held: dict[int, Any], tolerance: float) -> Strip:
        """The values after one step; those that no later step reads are dropped."""
        # Values at vertices that are within the tolerance of a knot are put on it: what is zero stays exactly zero, so
        # that ties after it (in a max-pooling of relus) remain ties.
        step = self.graph.steps[place]
        if not self._dependent(step):
            return strip
        values, slopes = dict(strip.values), None if strip.slopes is None else dict(strip.slopes)
        inputs = self.arguments(step, strip, held)
        boundaries = step.operator.boundaries()
        if slopes is None and isinstance(boundaries, Knots):
            inputs = [_on_knots(inputs[0], boundaries.knots, tolerance * scale(inputs)), *inputs[1:]]
        value = step.operator(*inputs)
        for number, item in zip(step.outputs, as_tuple(value), strict=False):
            if number is not None:
                values[number] = self.axis(number).to_front(item)
        if slopes is not None and step.active:
            # On its piece the operator is affine, so its map takes slopes along the line to slopes along the line.
            at = [step.inputs[position] for position in step.active]
            known = strip.slopes or {}
            tangents = [self.placed(n, known[n] if n in known else torch.zeros_like(strip.values[n])) for n in at]
            moved = step.operator.local(inputs, value).mv(tangents)
            for number, item in zip(step.outputs, moved, strict=False):
                if number is not None and item is not None:
                    slopes[number] = self.axis(number).to_front(item)
        for number in {*step.inputs, *step.outputs} - {None}:
            if self.last_use.get(number, -1) <= place:
                for table in (values, slopes or {}):
                    table.pop(number, None)
        return Strip(strip.t, values, slopes)


def _on_knots(x: Tensor, knots: tuple[float, ...], limit: float) -> Tensor:
    """Entries with those within a limit of a knot put on it."""
    for knot in knots:  # of zero, which nearly all knots are, hardshrink does it in one pass
        near = (x - knot).abs() <= limit if knot else None
        x = torch.nn.functional.hardshrink(x, limit) if near is None else torch.where(near, knot, x)
    return x


def scale(*sides: list[Any]) -> float:
    """The largest finite magnitude among an operator's inputs."""
    found = 0.0
    for item in (item for side in sides for item in side):
        if isinstance(item, Tensor) and item.is_floating_point() and item.numel():
            largest = float(item.abs().max())
            # A mask's infinities say nothing about the rounding of what is beside them.
            found = max(found, size(without_infinities(item)) if largest == float("inf") else largest)
    return found


def _layout(value: Value, rows: int) -> list[int]:
    """The shape of a value with so many samples, in its own layout."""
    axis = value.batch or BatchAxis()
    folded = (axis.outer > 1) + (axis.inner > 1)
    before, after = value.units[: axis.dim], value.units[axis.dim + folded :]
    return [*before, axis.outer * rows * axis.inner, *after]


@dataclass(frozen=True)
class Block:
    """Finished pieces, next to one another."""

    t: Tensor  # (pieces + 1,) vertices
    starts: Tensor  # (pieces, *units) the output's limit at the left end of every piece
    ends: Tensor  # (pieces, *units) at the right end
    at: Tensor  # (changes,) where a unit changes its piece: one of ``t`` but the last
    operator: Tensor  # (changes,) place of the unit's operator among those with several pieces
    unit: Tensor  # (changes,) its flat number among the operator's units


@dataclass(frozen=True)
class _Task:
    """Pieces that still have to run from a step on; ``parent`` is shared by neighbors until they do."""

    place: int
    parent: Strip
    t: Tensor
    cut: bool


class Walk:
    """Follows the output of a graph in float64 along a segment."""

    def __init__(self, graph: Graph, segment: Segment, tolerance: float, memory: int) -> None:
        self.track = Track(graph)
        self.segment = segment
        # Vertices closer than this are one, and values below it, relative to the largest of their operator's inputs,
        # count as zero.
        self.tolerance = tolerance
        self.rows = max(2, memory // (8 * TEMPORARIES * graph.largest_value()))
        places = [p for p, s in enumerate(graph.steps) if s.records and s.records[0].pieces > 1]
        self.operators = {place: number for number, place in enumerate(places)}
        self._last: dict[int, Tensor] = {}  # the codes of the last piece seen, by step
        # Where units change, their operators and their numbers, which wait for the block that they belong to.
        none = torch.empty(0, dtype=torch.long, device=segment.start[0].device)
        self._changes: list[tuple[Tensor, ...]] = [(none.double(), none, none)]

    def blocks(self) -> Iterator[Block]:
        """Finished pieces from t = 0 to t = 1, at most ``rows`` at a time."""
        t = torch.tensor([0.0, 1.0], dtype=torch.float64, device=self.segment.start[0].device)
        at = t if self.track.continuous else t.mean(0, keepdim=True)
        strip = self.track.start(t, self.segment.points(at), self.segment.direction(len(at)))
        tasks = [_Task(0, strip, t, False)]
        while tasks:
            task = tasks.pop()
            found = self._run(task)
            if isinstance(found, Strip):
                yield self._finish(found)
            else:
                tasks.extend(reversed(found))

    def _run(self, task: _Task) -> Strip | list[_Task]:
        """Run to the end, or up to a step whose cuts make too many pieces for one block."""
        # Only now are the values at the task's vertices interpolated: until then neighbors share those of their parent.
        strip, cut = task.parent.refined(task.t), task.cut
        held, pairs = self._hold_values(strip)
        for place in range(task.place, len(self.track.graph.steps)):
            step = self.track.graph.steps[place]
            if place in self.operators:
                if not cut:  # a task that was split off has been cut by its first step already
                    t = self._subdivide(step, strip, pairs)
                    grew = len(t) > len(strip.t)
                    if len(t) - 1 > self.rows and grew:  # neighbors have the vertex between them in common
                        parts = slices(len(t) - 1, self.rows)
                        return [_Task(place, strip, t[part.start : part.stop + 1], True) for part in parts]
                    if grew:
                        strip = strip.refined(t)
                        held, pairs = self._hold_values(strip)
                self._record(place, step, strip, pairs)
                cut = False
            strip = self.track.take(place, strip, held, self.tolerance)
        return strip

    def _hold_values(self, strip: Strip) -> tuple[dict[int, Any], dict[int, Any]]:
        """Values that depend on the batch size alone, for the strip's rows and for its pieces."""
        held = self.track.held(strip.rows)
        return held, held if strip.slopes is not None else self.track.held(len(strip.t) - 1)

    def _subdivide(self, step: Step, strip: Strip, pairs: dict[int, Any]) -> Tensor:
        """The strip's vertices and those at which the operator's units change their pieces."""
        left, right = (self.track.arguments(step, strip, pairs, side) for side in (-1, 1))
        pieces = len(strip.t) - 1
        number = step.result
        units = self.track.graph.values[number].units
        owner = torch.arange(pieces, device=strip.t.device).view(-1, *([1] * len(units))).expand(pieces, *units)
        owner = self.track.placed(number, owner)
        found = cuts(step, (left, right), owner, self.tolerance * scale(left, right))
        piece = torch.cat([item[0] for item in found]) if found else torch.empty(0, dtype=torch.long)
        if not len(piece):
            return strip.t
        fraction = torch.cat([item[1] for item in found])
        start, end = strip.t[piece], strip.t[piece + 1]
        new = start + fraction * (end - start)
        # A cut within the tolerance of a vertex is that vertex, and of several so close together the first is kept.
        new = new[(new - start > self.tolerance) & (end - new > self.tolerance)].sort().values
        apart = torch.ones_like(new, dtype=torch.bool)
        apart[1:] = new[1:] - new[:-1] > self.tolerance
        return torch.cat([strip.t, new[apart]]).sort().values

    def _record(self, place: int, step: Step, strip: Strip, pairs: dict[int, Any]) -> None:
        """Note every unit whose code differs between neighboring pieces."""
        inputs = self.track.arguments(step, strip, pairs, 0)
        # In the middle of a piece values too small to trust count as on the boundary.
        codes = known_boundaries(step).codes(inputs, self.tolerance * scale(inputs))
        if codes is None:  # they do not follow from the boundaries
            codes = step.operator.codes(inputs, step.operator(*inputs))
        if codes is None:
            raise refusal(step, "it has pieces and no codes", "let its method codes() give them")
        codes = as_rows(self.track.axis(step.result).to_front(codes))
        before = torch.cat([self._last.get(place, codes[:1]), codes[:-1]])
        piece, unit = torch.nonzero(codes != before, as_tuple=True)
        self._last[place] = codes[-1:].clone()
        if len(piece):
            self._changes.append((strip.t[piece], torch.full_like(unit, self.operators[place]), unit))

    def _finish(self, strip: Strip) -> Block:
        """The pieces as they are handed on, with the changes of units at their vertices but the last."""
        # What changes at the last vertex belongs to the next block, whose first it is. So do changes further right: an
        # earlier step has noted them for all pieces that it had before it, of which this block is a part.
        number = self.track.graph.outputs[0]
        changes = [torch.cat(parts) for parts in zip(*self._changes, strict=True)]
        done = changes[0] < strip.t[-1]
        self._changes = [tuple(item[~done] for item in changes)]
        # Stable, so that what changes at one place stays in the order in which the operators run.
        order = changes[0][done].argsort(stable=True)
        at, operator, unit = (item[done][order] for item in changes)
        return Block(strip.t, strip.side(number, -1), strip.side(number, 1), at, operator, unit)
