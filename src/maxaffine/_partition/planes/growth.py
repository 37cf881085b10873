"""Values at the vertices that divisions made: each lies on a segment on which everything carried is affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition.planes.complex import Stage
from maxaffine._partition.planes.levels import CHUNK_BYTES, Rows


@dataclass(frozen=True, eq=False)
class OnKnots:
    """Entries that are known exactly at new vertices: a unit lies on its knot where its boundary passes.

    Attributes:
        number: The value that holds the units.
        units: (M,) flat unit of each function.
        knots: (M,) the knot that the function is zero at.
    """

    number: int
    units: np.ndarray
    knots: np.ndarray


@dataclass(frozen=True, eq=False)
class Growth:
    """The vertices of a complex in terms of those it had before it was divided.

    Attributes:
        count: Vertices before.
        stages: How the others were made, in order; their functions count through ``knots``.
        knots: What is known exactly; None where nothing is.
    """

    count: int
    stages: tuple[Stage, ...]
    knots: OnKnots | None = None

    @property
    def total(self) -> int:
        """Vertices after the last stage."""
        return self.count + sum(len(stage.at) for stage in self.stages)

    def grown(self, rows: Rows, chosen: np.ndarray | None = None) -> Rows:
        """The values at some of the vertices.

        Args:
            rows: The values at the vertices before.
            chosen: Increasing numbers of vertices; all of them when None.

        Returns:
            A row per chosen vertex.
        """
        if not self.stages and chosen is None:
            return rows
        plan = self._plan(chosen)
        return {number: self._fill(number, table, plan) for number, table in rows.items()}

    def _plan(self, chosen: np.ndarray | None) -> _Plan:
        """Which vertices are needed for the chosen ones, and where each then stands."""
        if chosen is None:
            return _Plan(None, tuple(None for _ in self.stages), None, None)
        needed = np.zeros(self.total, dtype=bool)
        needed[chosen] = True
        end, kept = self.total, []
        for stage in reversed(self.stages):
            first = end - len(stage.at)
            which = np.flatnonzero(needed[first:end])
            needed[stage.first[which]] = True
            needed[stage.second[which]] = True
            kept.append(which)
            end = first
        place = np.cumsum(needed) - 1
        return _Plan(np.flatnonzero(needed[: self.count]), tuple(reversed(kept)), place, needed, place[chosen])

    def _fill(self, number: int, table: Tensor, plan: _Plan) -> Tensor:
        total = self.total if plan.needed is None else int(plan.needed.sum())
        if not table.is_floating_point():
            return table[:1].expand(total if plan.result is None else len(plan.result), -1)
        start = table if plan.before is None else table.index_select(0, torch.from_numpy(plan.before))
        filled = table.new_empty(total, table.shape[1])
        filled[: len(start)] = start
        endless = start[:1].isinf().any(0)
        end, step = len(start), max(1, CHUNK_BYTES // max(1, 8 * table.shape[1]))
        for stage, kept in zip(self.stages, plan.kept, strict=True):
            first, second, at = (plan.of(array, kept) for array in (stage.first, stage.second, stage.at))
            weights = torch.from_numpy(at)[:, None]
            ends = [torch.from_numpy(plan.place_of(vertices)) for vertices in (first, second)]
            for low in range(0, len(at), step):
                high = min(low + step, len(at))
                a, b = (filled.index_select(0, vertices[low:high]) for vertices in ends)
                torch.lerp(a, b, weights[low:high], out=filled[end + low : end + high])
            if endless.any():  # of two equal infinities lerp makes NaN
                filled[end : end + len(at), endless] = start[0, endless]
            if self.knots is not None and self.knots.number == number:
                _set_knots(filled, stage, self.knots, plan)
            end += len(at)
        if plan.result is None or len(plan.result) == total:
            return filled
        return filled.index_select(0, torch.from_numpy(plan.result))


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which vertices are filled in.

    Attributes:
        before: The vertices before that are needed; None for all.
        kept: Per stage, the new vertices that are needed; None for all.
        place: Where each vertex stands among the needed ones.
        needed: Which vertices are needed.
        result: Where the chosen ones stand.
    """

    before: np.ndarray | None
    kept: tuple[np.ndarray | None, ...]
    place: np.ndarray | None
    needed: np.ndarray | None
    result: np.ndarray | None = None

    def of(self, array: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
        return array if kept is None else array[kept]

    def place_of(self, vertices: np.ndarray) -> np.ndarray:
        return vertices if self.place is None else self.place[vertices]


def _set_knots(filled: Tensor, stage: Stage, knots: OnKnots, plan: _Plan) -> None:
    vertex, function = stage.vertex, stage.function
    if plan.needed is not None:
        kept = plan.needed[vertex]
        vertex, function = vertex[kept], function[kept]
    entries = torch.from_numpy(plan.place_of(vertex)), torch.from_numpy(knots.units[function])
    filled[entries] = torch.from_numpy(knots.knots[function])


def grown_table(table: np.ndarray, stages: Sequence[Stage], functions: np.ndarray | None = None) -> np.ndarray:
    """A table of functions (V, M) with a row for every new vertex.

    Args:
        table: The values at the vertices before.
        stages: How the others were made.
        functions: Increasing numbers of the table's columns among the stages' functions, whose zeros are then exact.

    Returns:
        The table at all vertices.
    """
    whole = np.empty((len(table) + sum(len(stage.at) for stage in stages), table.shape[1]))
    whole[: len(table)] = table
    end = len(table)
    for stage in stages:
        a, b = whole[stage.first], whole[stage.second]
        whole[end : end + len(stage.at)] = a + stage.at[:, None] * (b - a)
        if functions is not None:
            column = np.minimum(np.searchsorted(functions, stage.function), len(functions) - 1)
            known = functions[column] == stage.function
            whole[stage.vertex[known], column[known]] = 0
        end += len(stage.at)
    return whole
