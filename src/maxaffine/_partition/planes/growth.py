"""Values at the vertices that divisions made: each lies on a segment on which everything carried is affine.

A division makes more vertices than there were before. Running the network at them would start from the inputs again,
operator by operator. But a new vertex lies on an edge or a chord of one cell, and within a cell all values are affine:
so they are interpolated between the two ends, and no part of the network runs twice. Where the unit whose boundary made
the vertex is known to lie on a knot there, it is put on it exactly, or what is zero would go on as rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._partition.planes.complex.subdivide import Stage
from maxaffine._partition.planes.levels import Rows

CHUNK_BYTES = 2**20  # of rows that are interpolated at once: both ends and the result stay in a cache


@dataclass(frozen=True, eq=False)
class OnKnots:
    """Entries that are known exactly at new vertices: a unit lies on its knot where its boundary passes."""

    number: int  # the value that holds the units
    units: np.ndarray  # (M,) flat unit of each function; -1 for a function that is not carried
    knots: np.ndarray  # (M,) the knot that the function is zero at


@dataclass(frozen=True, eq=False)
class Growth:
    """The vertices of a complex in terms of those it had before it was divided."""

    count: int  # vertices before
    stages: tuple[Stage, ...]  # how the others were made, in order; their functions count through ``knots``
    knots: OnKnots | None = None  # what is known exactly; None where nothing is

    def extend(self, rows: Rows, chosen: np.ndarray | None = None) -> Rows:
        """The values at all vertices, or a row for each of some (increasing), from those at the vertices before."""
        if not self.stages and chosen is None:
            return rows
        plan = self._plan(chosen)
        return {number: self._fill(number, table, plan) for number, table in rows.items()}

    def _plan(self, chosen: np.ndarray | None) -> _Plan:
        """Which vertices are needed for the chosen ones, and where each then stands."""
        total = self.count + sum(len(stage.at) for stage in self.stages)
        if chosen is None:
            return _Plan(None, (slice(None),) * len(self.stages), total)
        needed = np.zeros(total, dtype=bool)
        needed[chosen] = True
        # From the last stage to the first, since both ends of a segment may be vertices of the stages before.
        kept, end = [], total
        for stage in reversed(self.stages):
            (which,) = needed[end - len(stage.at) : end].nonzero()
            needed[stage.first.take(which)] = True
            needed[stage.second.take(which)] = True
            kept.append(which)
            end -= len(stage.at)
        place = needed.cumsum() - 1
        (before,) = needed[: self.count].nonzero()
        return _Plan(before, tuple(reversed(kept)), int(place[-1]) + 1, place, needed, chosen)

    def _fill(self, number: int, table: Tensor, plan: _Plan) -> Tensor:
        """The rows of one value that a plan asks for."""
        if not table.is_floating_point():  # the same all over the plane
            return table[:1].expand(plan.total if plan.chosen is None else len(plan.chosen), -1)
        start = table.numpy()
        filled = np.empty((plan.total, start.shape[1]), dtype=start.dtype)
        end = self.count if plan.before is None else len(plan.before)
        if plan.before is None:
            filled[:end] = start
        else:  # all places are right; in mode "raise" there would be a copy
            start.take(plan.before, 0, out=filled[:end], mode="clip")
        endless = np.flatnonzero(np.isinf(filled[:1]).any(0))
        # Stage by stage: both ends of a segment may be vertices of the stage before.
        for stage, kept in zip(self.stages, plan.kept, strict=True):
            at, first, second = stage.at[kept], plan.stand(stage.first[kept]), plan.stand(stage.second[kept])
            for part in slices(len(at), CHUNK_BYTES // max(1, 8 * filled.shape[1])):
                a, b = (torch.from_numpy(filled.take(vertices[part], 0)) for vertices in (first, second))
                new = torch.from_numpy(filled[end + part.start : end + part.stop])
                torch.lerp(a, b, torch.from_numpy(at[part])[:, None], out=new)
            if len(endless):  # of two equal infinities lerp makes NaN
                filled[end : end + len(at), endless] = filled[0, endless]
            if self.knots is not None and self.knots.number == number:
                _set_knots(filled, stage, self.knots, plan)
            end += len(at)
        return torch.from_numpy(filled if plan.chosen is None else filled.take(plan.stand(plan.chosen), 0))


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which vertices are filled in."""

    before: np.ndarray | None  # the vertices before that are needed; None for all
    kept: tuple[np.ndarray | slice, ...]  # per stage, the new vertices that are needed
    total: int  # how many are needed
    place: np.ndarray | None = None  # where each vertex stands among the needed ones; None where all are
    needed: np.ndarray | None = None  # which vertices are needed; None for all
    chosen: np.ndarray | None = None  # those that are asked for; None for all

    def stand(self, vertices: np.ndarray) -> np.ndarray:
        """Where some vertices stand among the needed ones."""
        return vertices if self.place is None else self.place.take(vertices)


def _set_knots(filled: np.ndarray, stage: Stage, knots: OnKnots, plan: _Plan) -> None:
    """Put the units whose boundary made the vertices of a stage on their knots."""
    vertex, function = stage.vertex, stage.function
    kept = knots.units.take(function) >= 0
    if plan.needed is not None:
        kept &= plan.needed.take(vertex)
    if not kept.all():
        vertex, function = vertex[kept], function[kept]
    filled[plan.stand(vertex), knots.units.take(function)] = knots.knots.take(function)


def extend_table(table: np.ndarray, stages: Sequence[Stage], functions: np.ndarray | None = None) -> np.ndarray:
    """A table (V, M) at all vertices, exactly zero where the stages say so of the functions that are its columns."""
    knots = None
    if functions is not None and len(functions):
        units = np.full(max([functions.max(), *(s.function.max(initial=0) for s in stages)]) + 1, -1)
        units[functions] = np.arange(len(functions))
        knots = OnKnots(0, units, np.zeros(len(units)))
    return Growth(len(table), tuple(stages), knots).extend({0: torch.from_numpy(table)})[0].numpy()
