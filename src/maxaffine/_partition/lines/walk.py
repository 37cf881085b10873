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
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._graph import Graph, Step, as_rows
from maxaffine._partition.inputs import known_boundaries, refusal
from maxaffine._partition.lines.cuts import cuts
from maxaffine._partition.lines.segment import Segment
from maxaffine._partition.lines.strip import AnyStrip, Strip
from maxaffine._partition.lines.track import Track
from maxaffine._partition.lines.watch import Watch

TEMPORARIES = 8  # tensors as large as the largest value that one step holds at a time
FINE = 1e-13  # how far single precision may put off a network in float64, relative to the largest unit of a value
LEAN = 512  # pieces of a stretch on which few units bend: with more of them, more do


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
    parent: AnyStrip
    t: Tensor
    cut: bool

    def split(self, place: int, strip: AnyStrip, t: Tensor, pieces: int, cut: bool) -> list[_Task]:
        """Vertices of a strip in tasks of at most so many pieces, neighbors with the vertex between them in common."""
        count = len(t) - 1
        parts = slices(count, ceil(count / ceil(count / pieces)))  # of about one size, for each runs its ends
        return [_Task(place, strip, t[part.start : part.stop + 1], cut) for part in parts]


class Walk:
    """Follows the output of a graph in float64 along a segment."""

    def __init__(self, graph: Graph, segment: Segment, tolerance: float, memory: int, rounding: float = FINE) -> None:
        # Single precision may round by no more than what counts as zero.
        self.track = Track(graph, min(tolerance, rounding))
        self.segment = segment
        # Vertices closer than this are one, and values below it, relative to the largest of their operator's inputs,
        # count as zero.
        self.tolerance = tolerance
        self.entries = memory // (8 * TEMPORARIES)
        self.operators = {place: number for number, place in enumerate(sorted(self.track.several))}
        self._widest = [1] * (len(graph.steps) + 1)  # entries of the largest value from a step on
        for place in reversed(range(len(graph.steps))):
            step = graph.steps[place]
            numbers = [n for n in (*step.inputs, *step.outputs) if n is not None and n in graph.values]
            sizes = [prod(graph.values[n].units) for n in numbers]
            self._widest[place] = max([self._widest[place + 1], *sizes])
        self._last: dict[int, Tensor] = {}  # the codes of the last piece seen, by step
        # Where units change, their operators and their numbers, which wait for the block that they belong to.
        none = torch.empty(0, dtype=torch.long, device=segment.start[0].device)
        self._changes: list[tuple[Tensor, ...]] = [(none.double(), none, none)]

    def blocks(self) -> Iterator[Block]:
        """Finished pieces from t = 0 to t = 1, some at a time."""
        strip = self.track.start(self.segment)
        tasks = [_Task(0, strip, strip.t, False)]
        while tasks:
            task = tasks.pop()
            found = self._run(task)
            if not isinstance(found, list):
                yield self._finish(found)
            else:
                tasks.extend(reversed(found))

    def _run(self, task: _Task) -> AnyStrip | list[_Task]:
        """Run to the end, or up to a step that has too many pieces for one block."""
        # Only now are the values at the task's vertices interpolated: until then neighbors share those of their parent.
        strip, cut = task.parent.refined(task.t), task.cut
        for place in range(task.place, len(self.track.graph.steps)):
            step = self.track.graph.steps[place]
            if not self.track.dependent[place]:
                continue
            several = place in self.operators
            limit = self.tolerance * self.track.scale(step, strip) if several else 0.0
            watch = self.track.watch(place, strip, limit) if several else None
            bends = None if several else self.track.bends(place, strip)
            full = self.track.opens(place, strip, watch, bends)
            if full:
                most = max(2, int(min(self.entries // self._widest[place], self.track.suits(place, strip, watch))))
                if strip.pieces > most:
                    return task.split(place, strip, strip.t, most, cut)
            else:
                most = self._lean(strip)
            if several:
                if not cut:  # a task that was split off has been cut by its first step already
                    t = self._subdivide(step, strip, watch, limit)
                    if len(t) > len(strip.t):
                        if len(t) - 1 > most:
                            return task.split(place, strip, t, most, True)
                        strip = strip.refined(t)
                self._record(place, step, strip, watch, limit)
            cut = False
            strip = self.track.take(place, strip, watch, bends, limit, full)
        return strip

    def _lean(self, strip: AnyStrip) -> int:
        """How many pieces a strip may have of which few units bend."""
        if not isinstance(strip, Strip):
            return LEAN
        return max(2, min(LEAN, self.entries // max([1, *(value.width for value in strip.values.values())])))

    def _subdivide(self, step: Step, strip: AnyStrip, watch: Watch | None, limit: float) -> Tensor:
        """The strip's vertices and those at which the operator's units change their pieces."""
        if watch is not None and isinstance(strip, Strip):
            course = strip.values[step.inputs[0]]
            found = watch.cuts(watch.read(course, strip.share), limit)
        else:
            left, right = (self.track.arguments(step, strip, side) for side in (-1, 1))
            number = step.result
            units = self.track.graph.values[number].units
            owner = torch.arange(strip.pieces, device=strip.t.device).view(-1, *([1] * len(units)))
            owner = self.track.placed(number, owner.expand(strip.pieces, *units))
            found = cuts(step, (left, right), owner, limit)
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

    def _record(self, place: int, step: Step, strip: AnyStrip, watch: Watch | None, limit: float) -> None:
        """Note every unit whose code differs between neighboring pieces."""
        if watch is not None and isinstance(strip, Strip):
            first, codes, units = self._watched(step, strip, watch, limit)
            piece, which = torch.nonzero(codes[1:] != codes[:-1], as_tuple=True)
            jumped = torch.nonzero(first != self._last.get(place, first))[:, 0]
            self._last[place] = first.index_copy(0, units, codes[-1].to(first.dtype))
            at = torch.cat([strip.t[:1].expand(len(jumped)), strip.t[piece + 1]])
            unit = torch.cat([jumped, units[which]])
        else:
            codes = self._codes(step, self.track.arguments(step, strip, 0), limit)
            codes = as_rows(self.track.axis(step.result).to_front(codes))
            before = torch.cat([self._last.get(place, codes[0])[None], codes[:-1]])
            piece, unit = torch.nonzero(codes != before, as_tuple=True)
            self._last[place] = codes[-1].clone()
            at = strip.t[piece]
        if len(unit):
            self._changes.append((at, torch.full_like(unit, self.operators[place]), unit))

    def _watched(self, step: Step, strip: Strip, watch: Watch, limit: float) -> tuple[Tensor, Tensor, Tensor]:
        """All codes on the first piece, and on every piece those of the watched units, with their numbers."""
        course = strip.values[step.inputs[0]]
        read = watch.read(course, strip.share)
        # In the middle of a piece values too small to trust count as on the boundary.
        codes = watch.codes((read[1:] + read[:-1]) / 2, limit)
        # The others have one code from end to end, so it may be read off anywhere on the straight line between them.
        middle = (course.ends[:1] + course.ends[1:]) / 2
        first = as_rows(self._codes(step, [self.track.placed(step.inputs[0], middle)], limit))[0]
        return first.index_copy(0, watch.units, codes[0].to(first.dtype)), codes, watch.units

    def _codes(self, step: Step, inputs: list, limit: float) -> Tensor:
        """All codes at a batch of inputs."""
        codes = known_boundaries(step).codes(inputs, limit)
        if codes is None:  # they do not follow from the boundaries
            codes = step.operator.codes(inputs, step.operator(*inputs))
        if codes is None:
            raise refusal(step, "it has pieces and no codes", "let its method codes() give them")
        return codes

    def _finish(self, strip: AnyStrip) -> Block:
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
