"""The subdivision of a line, layer by layer and depth first: blocks of finished pieces in the order of the line.

As on a plane, pieces whose values would not fit in memory go through the rest of the network in blocks, one after the
other. Unlike on a plane, blocks have an order: they finish from left to right, so that a progress bar can follow them
and whoever wants the first thousand pieces need not wait for the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._graph import Graph, Step, as_rows
from maxaffine._partition.inputs import known_boundaries, refusal
from maxaffine._partition.lines.cuts import cuts
from maxaffine._partition.lines.segment import Segment
from maxaffine._partition.lines.strip import Strip, Track, scale

TEMPORARIES = 8  # tensors as large as the largest value that one step holds at a time


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
