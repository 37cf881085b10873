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
from maxaffine._partition.planes.levels import CHUNK_BYTES, Rows


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
        ends = np.cumsum([self.count, *(len(stage.at) for stage in self.stages)])
        if chosen is None:
            every = np.arange(ends[-1])
            return _Plan(every[: self.count], tuple(np.arange(len(s.at)) for s in self.stages), every, None, every)
        needed = np.zeros(ends[-1], dtype=bool)
        needed[chosen] = True
        # From the last stage to the first, since both ends of a segment may be vertices of the stages before.
        kept = []
        for stage, first, end in zip(reversed(self.stages), ends[-2::-1], ends[:0:-1], strict=True):
            which = np.flatnonzero(needed[first:end])
            needed[stage.first[which]] = True
            needed[stage.second[which]] = True
            kept.append(which)
        place = np.cumsum(needed) - 1
        return _Plan(np.flatnonzero(needed[: self.count]), tuple(reversed(kept)), place, needed, place[chosen])

    def _fill(self, number: int, table: Tensor, plan: _Plan) -> Tensor:
        """The rows of one value that a plan asks for."""
        total = len(plan.before) + sum(len(kept) for kept in plan.kept)
        if not table.is_floating_point():  # the same all over the plane
            return table[:1].expand(len(plan.result), -1)
        start = table if len(plan.before) == len(table) else table.index_select(0, torch.from_numpy(plan.before))
        filled = table.new_empty(total, table.shape[1])
        filled[: len(start)] = start
        endless = start[:1].isinf().any(0)
        end = len(start)
        # Stage by stage: both ends of a segment may be vertices of the stage before.
        for stage, kept in zip(self.stages, plan.kept, strict=True):
            weights = torch.from_numpy(stage.at[kept])[:, None]
            ends = [torch.from_numpy(plan.place[vertices[kept]]) for vertices in (stage.first, stage.second)]
            for part in slices(len(kept), CHUNK_BYTES // max(1, 8 * table.shape[1])):
                a, b = (filled.index_select(0, vertices[part]) for vertices in ends)
                torch.lerp(a, b, weights[part], out=filled[end + part.start : end + part.stop])
            if endless.any():  # of two equal infinities lerp makes NaN
                filled[end : end + len(kept), endless] = start[0, endless]
            if self.knots is not None and self.knots.number == number:
                _set_knots(filled, stage, self.knots, plan)
            end += len(kept)
        return filled if len(plan.result) == total else filled.index_select(0, torch.from_numpy(plan.result))


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which vertices are filled in."""

    before: np.ndarray  # the vertices before that are needed
    kept: tuple[np.ndarray, ...]  # per stage, the new vertices that are needed
    place: np.ndarray  # where each vertex stands among the needed ones
    needed: np.ndarray | None  # which vertices are needed; None for all
    result: np.ndarray  # where the chosen ones stand


def _set_knots(filled: Tensor, stage: Stage, knots: OnKnots, plan: _Plan) -> None:
    """Put the units whose boundary made the vertices of a stage on their knots."""
    kept = knots.units[stage.function] >= 0
    if plan.needed is not None:
        kept &= plan.needed[stage.vertex]
    vertex, function = stage.vertex[kept], stage.function[kept]
    entries = torch.from_numpy(plan.place[vertex]), torch.from_numpy(knots.units[function])
    filled[entries] = torch.from_numpy(knots.knots[function])


def extend_table(table: np.ndarray, stages: Sequence[Stage], functions: np.ndarray | None = None) -> np.ndarray:
    """A table (V, M) at all vertices, exactly zero where the stages say so of the functions that are its columns."""
    knots = None
    if functions is not None and len(functions):
        units = np.full(max([functions.max(), *(s.function.max(initial=0) for s in stages)]) + 1, -1)
        units[functions] = np.arange(len(functions))
        knots = OnKnots(0, units, np.zeros(len(units)))
    return Growth(len(table), tuple(stages), knots).extend({0: torch.from_numpy(table)})[0].numpy()
