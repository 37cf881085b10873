"""What is known of a network's values on a stretch of the line.

Few units bend on a short stretch: those whose operator changes its piece there, and what depends on them. All others
are affine in t from end to end, so that their two ends say everything. Cutting a piece must not run the network again
either: a value at a new vertex lies on the line between its neighbors'.

On stretches so short that no unit bends by more than a millionth of the value, how far units bend may be known to fewer
digits than the value itself: in single precision, in which convolutions run four times as fast as in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import as_rows, fastest_layout
from maxaffine._network import size, without_infinities
from maxaffine._partition.columns import extremes

# Of vertices on a part of a stretch: how far along it the part begins and ends, and along the part they are.
Part = tuple[Tensor, Tensor]
STRAIGHT = 2.0**-48  # what rounding may bend, relative to the largest entry of a value


@dataclass(frozen=True)
class Course:
    """One value on a stretch: affine in t, but for the units that bend, which are kept at every vertex."""

    ends: Tensor  # (2, *units) at the ends of the stretch
    bent: Tensor | None  # (k,) flat numbers of the units that bend, increasing; None where any may
    rows: Tensor  # (vertices, k), or (vertices, *units)

    @classmethod
    def full(cls, rows: Tensor) -> Course:
        """A value of which any unit may bend, (vertices, *units)."""
        return cls(rows[:: max(1, len(rows) - 1)], None, rows)

    def at(self, units: Tensor, share: Tensor) -> Tensor:
        """Some units at every vertex, (vertices, n); ``share`` is how far along the stretch the vertices are."""
        if self.bent is None:
            return as_rows(self.rows)[:, units]
        found = mixed(as_rows(self.ends)[:, units], share)
        if len(self.bent):
            place = torch.searchsorted(self.bent, units).clamp(max=len(self.bent) - 1)
            which = torch.nonzero(self.bent[place] == units)[:, 0]
            found[:, which] = self.rows[:, place[which]]
        return found

    def opened(self, share: Tensor) -> Course:
        """The same with every unit at every vertex."""
        if self.bent is None:
            return self
        rows = mixed(self.ends, share).contiguous()
        rows.view(len(rows), self.ends[0].numel())[:, self.bent] = self.rows
        return replace(self, bent=None, rows=rows)

    def deviation(self, share: Tensor) -> Tensor:
        """How far the bent units are from the straight line between their ends, (vertices, k)."""
        return self.rows - mixed(as_rows(self.ends)[:, self.bent], share)

    def bend(self, share: Tensor) -> float:
        """How far the unit that bends most is from the straight line."""
        return magnitude(self.rows - mixed(self.ends, share) if self.bent is None else self.deviation(share))

    def bow(self, share: Tensor) -> Bow:
        """The same by how far every unit is from the straight line."""
        like = self.ends[:1].float().expand(len(share), *self.ends.shape[1:])
        bow = Bow(self.ends, torch.zeros_like(like, memory_format=fastest_layout(like)))
        if self.bent is None:
            bow.deviation.copy_(self.rows - mixed(self.ends, share))
        else:
            bow.deviation[bow.entries(self.bent)] = self.deviation(share).float()
        return bow

    def refined(self, place: Tensor, weight: Tensor, part: Part | None) -> Course:
        """The same at new vertices between those at places and the next; ``part`` if they are on a part of it."""
        rows = _interpolated(self.rows, place, weight)
        if self.bent is None:
            return Course.full(rows)
        if part is None:
            return replace(self, rows=rows)
        ends, share = part
        front = mixed(self.ends, ends).contiguous()
        front.view(2, self.ends[0].numel())[:, self.bent] = rows[[0, -1]]
        # What bends elsewhere may be straight on a part.
        return Course(front, self.bent, rows).trimmed(share)

    def trimmed(self, share: Tensor) -> Course:
        """The same without the bent units that are straight, as far as rounding can tell."""
        if self.bent is None or not len(self.bent):
            return self
        low, high = extremes(self.deviation(share))
        kept = torch.maximum(-low, high) > STRAIGHT * self.size
        return self if kept.all() else replace(self, bent=self.bent[kept], rows=self.rows[:, kept])

    @property
    def width(self) -> int:
        """Numbers per vertex."""
        return self.rows[0].numel()

    @cached_property
    def size(self) -> float:
        """The largest finite magnitude."""
        parts = (self.rows,) if self.bent is None else (self.ends, self.rows)
        return max(magnitude(part) for part in parts)

    @cached_property
    def extremes(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest number of every unit, flat: its whole course is between them."""
        if self.bent is None:
            return extremes(as_rows(self.rows))
        low, high = extremes(as_rows(self.ends))
        if len(self.bent):
            low[self.bent], high[self.bent] = extremes(self.rows)
        return low, high


@dataclass(frozen=True)
class Bow:
    """One value on a stretch on which any unit may bend, but by little: by how far each is from the straight line."""

    ends: Tensor  # (2, *units) at the ends of the stretch
    deviation: Tensor  # (vertices, *units) in float32; zero at the ends
    bent = None  # any may

    def at(self, units: Tensor, share: Tensor) -> Tensor:
        """Some units at every vertex, (vertices, n)."""
        return mixed(as_rows(self.ends)[:, units], share) + self.deviation[self.entries(units)]

    def entries(self, units: Tensor) -> tuple[slice | Tensor, ...]:
        """What units are called in a tensor of rows, whatever its layout in memory."""
        return slice(None), *torch.unravel_index(units, self.ends.shape[1:])

    def opened(self, share: Tensor) -> Course:
        """The same by its values at every vertex."""
        return Course.full(mixed(self.ends, share) + self.deviation)

    def bow(self, share: Tensor) -> Bow:
        """Itself."""
        return self

    def bend(self, share: Tensor) -> float:
        """How far the unit that bends most is from the straight line."""
        return max(map(magnitude, self.bends))

    @cached_property
    def bends(self) -> tuple[Tensor, Tensor]:
        """How far every unit is from the straight line, at the least and the most."""
        return extremes(self.deviation)

    def refined(self, place: Tensor, weight: Tensor, part: Part | None) -> Bow:
        """As of :class:`Course`."""
        deviation = _interpolated(self.deviation, place, weight)
        if part is None:
            return Bow(self.ends, deviation)
        ends, share = part
        # The line between the new ends leaves less to deviate from it; both ends take up what they deviated.
        first, last = deviation[[0, -1]]
        for row, weight in zip(deviation, share.float(), strict=True):  # one at a time, which stays in the cache
            row -= torch.lerp(first, last, weight)
        return Bow(mixed(self.ends, ends) + torch.stack([first, last]), deviation)

    @property
    def width(self) -> int:
        """Numbers per vertex."""
        return self.ends[0].numel()

    @cached_property
    def size(self) -> float:
        """The largest finite magnitude, but for the little that it bends."""
        return magnitude(self.ends)

    @cached_property
    def extremes(self) -> tuple[Tensor, Tensor]:
        """Below the smallest and above the largest number of every unit, flat."""
        low, high = extremes(as_rows(self.ends))
        least, most = self.bends
        return low + least.flatten(), high + most.flatten()


AnyCourse = Course | Bow


class _Pieces:
    """All values that later steps read, on the pieces between vertices; samples first."""

    t: Tensor  # (pieces + 1,) the vertices, increasing

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return len(self.t) - 1


@dataclass(frozen=True)
class Strip(_Pieces):
    """Of a continuous network: its values at the vertices, of which one is shared by two pieces."""

    t: Tensor
    values: dict[int, AnyCourse]  # by number

    @cached_property
    def share(self) -> Tensor:
        """(pieces + 1,) how far along the strip the vertices are, from 0 to 1."""
        return (self.t - self.t[0]) / (self.t[-1] - self.t[0])

    @property
    def rows(self) -> int:
        """Samples in a batch of these values."""
        return len(self.t)

    def front(self, number: int) -> Tensor:
        """A value, (rows, *units)."""
        value = self.values[number]
        return value.rows if isinstance(value, Course) and value.bent is None else value.opened(self.share).rows

    def side(self, number: int, which: int) -> Tensor:
        """A value's limits at the left (-1), the middle (0) or the right (1) of every piece: (pieces, *units)."""
        value = self.front(number)
        return (value[:-1] + value[1:]) / 2 if which == 0 else value[:-1] if which < 0 else value[1:]

    def opened(self, numbers: Iterable[int]) -> Strip:
        """The same with every unit of some values at every vertex."""
        found = {number: self.values[number].opened(self.share) for number in numbers if number in self.values}
        return replace(self, values=self.values | found)

    def refined(self, t: Tensor) -> Strip:
        """The same on finer pieces: vertices ``t`` within the range of this strip, its own among them."""
        if torch.equal(t, self.t):
            return self
        # The last vertex starts no piece: it lies at the end of the last one.
        place = (torch.searchsorted(self.t, t, right=True) - 1).clamp(max=len(self.t) - 2)
        weight = (t - self.t[place]) / (self.t[place + 1] - self.t[place])
        straight = [value for value in self.values.values() if isinstance(value, Bow) or value.bent is not None]
        part = None
        if straight and not torch.equal(t[:: len(t) - 1], self.t[:: len(self.t) - 1]):
            ends = torch.lerp(self.share[place], self.share[place + 1], weight)[[0, -1]]
            part = ends, Strip(t, {}).share
        return Strip(t, {n: value.refined(place, weight, part) for n, value in self.values.items()})


@dataclass(frozen=True)
class JumpStrip(_Pieces):
    """Of a network that jumps: one row per piece, its values at the middle, and their slopes along the line."""

    t: Tensor
    values: dict[int, Tensor]  # by number, (pieces, *units)
    slopes: dict[int, Tensor]  # (pieces, *units) d value / dt

    @property
    def rows(self) -> int:
        """Samples in a batch of these values."""
        return self.pieces

    def front(self, number: int) -> Tensor:
        """A value, (rows, *units)."""
        return self.values[number]

    def side(self, number: int, which: int) -> Tensor:
        """A value's limits at the left (-1), the middle (0) or the right (1) of every piece: (pieces, *units)."""
        value = self.values[number]
        if which == 0 or number not in self.slopes:
            return value
        half = _per_row((self.t[1:] - self.t[:-1]) / 2, value)
        return value + which * half * self.slopes[number]

    def refined(self, t: Tensor) -> JumpStrip:
        """The same on finer pieces, as of :class:`Strip`."""
        if torch.equal(t, self.t):
            return self
        middles = (t[:-1] + t[1:]) / 2
        place = torch.searchsorted(self.t, middles, right=True) - 1
        ahead = middles - (self.t[place] + self.t[place + 1]) / 2
        slopes = {number: slope[place] for number, slope in self.slopes.items()}
        values = {number: value[place] for number, value in self.values.items()}
        values |= {n: values[n] + _per_row(ahead, slope) * slope for n, slope in slopes.items()}
        return JumpStrip(t, values, slopes)


AnyStrip = Strip | JumpStrip


def magnitude(x: Any) -> float:
    """The largest finite magnitude among numbers; none of a size."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or not x.numel():
        return 0.0
    low, high = x.aminmax()
    largest = float(torch.maximum(-low, high))
    # A mask's infinities say nothing about the rounding of what is beside them.
    return size(without_infinities(x)) if largest == float("inf") else largest


def mixed(ends: Tensor, share: Tensor) -> Tensor:
    """What is affine between two ends (2, *units), at the vertices."""
    low = ends[0].expand(len(share), *ends.shape[1:])
    return _lerp(low, ends[1], _per_row(share, low))


def _interpolated(rows: Tensor, place: Tensor, weight: Tensor) -> Tensor:
    """Rows at new vertices between those at places and the next."""
    # Of several axes laid out in another order, index_select would make a slow copy in the order of the axes.
    found = rows.index_select(0, place) if rows.is_contiguous() else rows[place]
    new = torch.nonzero(weight)[:, 0]
    if len(new) * (4 if rows.is_contiguous() else 2) > len(weight):
        return _lerp(found, rows.index_select(0, place + 1), _per_row(weight, found))
    # Most vertices are old ones, at which nothing has to be computed.
    found[new] = _lerp(found[new], rows[place[new] + 1], _per_row(weight[new], found))
    return found


def _per_row(numbers: Tensor, like: Tensor) -> Tensor:
    """A number per row, shaped to be multiplied with the rows of another tensor."""
    return numbers.view(-1, *([1] * (like.dim() - 1)))


def _lerp(low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
    """Numbers between others."""
    if not low.is_floating_point():  # what cannot move
        return low
    found = torch.lerp(low, high, weight.to(low.dtype))
    if found.sum().isnan():  # a constant of infinity
        found = torch.where(low.isinf(), low, found)
    return found
