"""The units of one step that may change their piece on a stretch; all others keep theirs from end to end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine._graph import Contest, Knots
from maxaffine._partition.lines.cuts import Cuts, crossings, takeovers
from maxaffine._partition.lines.strip import AnyCourse, Course


@dataclass(frozen=True)
class Watch(ABC):
    """Some units of a step with pieces, and what they compare."""

    units: Tensor  # (k,) flat numbers, increasing

    @abstractmethod
    def read(self, course: AnyCourse, share: Tensor) -> Tensor:
        """What they compare, at every vertex: (vertices, k, ...)."""

    @abstractmethod
    def cuts(self, read: Tensor, tolerance: float) -> list[Cuts]:
        """The places inside pieces where they change theirs, as (piece, fraction of it)."""

    @abstractmethod
    def codes(self, read: Tensor, limit: float) -> Tensor:
        """Their codes, (rows, k)."""


@dataclass(frozen=True)
class KnotWatch(Watch):
    """Units that compare their entry with knots, close to one somewhere on the stretch."""

    knots: Knots

    @classmethod
    def of(cls, knots: Knots, course: AnyCourse, limit: float) -> KnotWatch:
        """Those that come within the limit of a knot, unless they stay on it."""
        low, high = course.extremes
        near = torch.zeros_like(low, dtype=torch.bool)
        for knot in knots.knots:
            near |= (low <= knot + limit) & (high >= knot - limit) & ((low != knot) | (high != knot))
        return cls(torch.nonzero(near)[:, 0], knots)

    def read(self, course: AnyCourse, share: Tensor) -> Tensor:
        return course.at(self.units, share)

    def cuts(self, read: Tensor, tolerance: float) -> list[Cuts]:
        differences = [pair.difference() for pair in self.knots.pairs([read])]
        return [crossings(item[:-1], item[1:], tolerance)[:2] for item in differences]

    def codes(self, read: Tensor, limit: float) -> Tensor:
        codes = self.knots.codes([read], limit)
        return torch.zeros_like(read, dtype=torch.uint8) if codes is None else codes


@dataclass(frozen=True)
class ContestWatch(Watch):
    """Units that pick the largest of several entries of which one bends, or is overtaken."""

    contest: Contest
    entries: Tensor  # (k, m) flat numbers of what each picks from, -1 where there is nothing

    @classmethod
    def of(cls, contest: Contest, course: Course, entries: Tensor) -> ContestWatch:
        """Of all units, by what each picks from; of a course of which few bend."""
        # Lines of which one is the largest at both ends are below it in between.
        ends = _scores(contest, as_flat(course.ends), entries)
        first, last = contest.winners(ends, 0.0)
        bends = torch.zeros(course.ends[0].numel() + 1, dtype=torch.bool, device=entries.device)
        bends[course.bent] = True
        units = torch.nonzero((first != last) | bends[entries].any(-1))[:, 0]
        return cls(units, contest, entries[units])

    def read(self, course: AnyCourse, share: Tensor) -> Tensor:
        # Every entry is read once, however many units pick from it.
        numbers, where = self.entries.clamp(min=0).unique(return_inverse=True)
        return _scores(self.contest, course.at(numbers, share), where.masked_fill(self.entries < 0, -1))

    def cuts(self, read: Tensor, tolerance: float) -> list[Cuts]:
        before, after = read[:-1], read[1:]
        where = torch.nonzero(before.argmax(-1) != after.argmax(-1), as_tuple=True)
        unit, fraction = takeovers(before[where], after[where], tolerance)
        return [(where[0][unit], fraction)]

    def codes(self, read: Tensor, limit: float) -> Tensor:
        return self.contest.winners(read, limit)


def as_flat(x: Tensor) -> Tensor:
    """Rows of values as rows of numbers."""
    return x.reshape(len(x), x[0].numel())


def _scores(contest: Contest, rows: Tensor, entries: Tensor) -> Tensor:
    """What units compare, (rows, k, m), by numbers of entries, -1 where there is nothing."""
    return (contest.factor * rows[:, entries]).masked_fill(entries < 0, -torch.inf)
