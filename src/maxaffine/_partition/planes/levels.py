"""A network as levels: what is run between one piecewise-affine operator and the next, at any number of points.

A plane is divided by one operator after the other, and what lies between two of them is affine and may be run at all
vertices at once. So the graph is cut before every operator that divides, and only the values that are still needed
cross a cut. A value is a table with a row per vertex, whatever its layout in the network: growing, choosing and
dividing are then the same for all of them.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._graph import Comparisons, Contest, Dependence, Graph, Order, Step
from maxaffine._network import difference
from maxaffine._partition.columns import column_extremes
from maxaffine._partition.inputs import known_boundaries
from maxaffine.errors import NotPiecewiseAffine, PartitionError

Rows = dict[int, Tensor]  # values by number, (V, K): a row per point, the units of one sample flattened

CHUNK_BYTES = 2**24
PROBES = 8


@dataclass(frozen=True)
class Level:
    """One stretch of a network."""

    graph: Graph  # from the values of the level before to those of this one
    operands: Graph  # from this level's values to the inputs of the operator that follows
    step: Step | None  # the piecewise-affine operator that follows; None after the last

    @cached_property
    def boundaries(self) -> Comparisons | Contest | None:
        """Where the operator's code changes; None after the last."""
        return None if self.step is None else known_boundaries(self.step)

    @property
    def name(self) -> str:
        """The operator's name."""
        return "" if self.step is None else self.step.records[0].name

    @cached_property
    def bytes_per_point(self) -> int:
        """What the values of this level take at one point."""
        return 8 * sum(prod(self.graph.values[number].units) for number in self.graph.outputs)

    @cached_property
    def points_at_once(self) -> int:
        """At how many points its values fit in a cache."""
        return CHUNK_BYTES // (8 * self.graph.largest_value())

    @cached_property
    def windows(self) -> np.ndarray:
        """(U, m) flat entries of the operator's input among which each of its units selects; short ones repeat one."""
        if self.step is None or not isinstance(self.boundaries, Contest):
            raise TypeError(f"no contest follows the level before {self.name!r}")
        value = self.operands.values[self.step.inputs[0]]
        # Its entries are numbered, and the operator puts them where it compares them.
        numbers = value.from_rows(torch.arange(prod(value.units), dtype=torch.float64)[None])
        places = self.boundaries.entries(numbers)
        places = places.reshape(-1, places.shape[-1]).cpu()
        first = places.gather(1, places.isfinite().byte().argmax(1, keepdim=True))
        return torch.where(places.isfinite(), places, first).long().numpy()

    def entries(self, rows: Rows) -> Tensor:
        """The first input of the operator that follows, a row per point."""
        return rows[self.step.inputs[0]] if self.step is not None else torch.zeros(0, 0)

    def run(self, rows: Rows) -> Rows:
        """This level's values at points from those of the level before, computed in chunks that fit in a cache."""
        count, size = next(iter(rows.values())).shape[0], self.points_at_once
        if count <= size:
            return self._run(rows)
        parts = [self._run({number: table[part] for number, table in rows.items()}) for part in slices(count, size)]
        return {number: torch.cat([part[number] for part in parts]) for number in self.graph.outputs}

    def _run(self, rows: Rows) -> Rows:
        """The same at all points at once."""
        graph, values = self.graph, self.graph.values
        found = graph.run([values[number].from_rows(rows[number]) for number in graph.inputs])
        return {number: values[number].to_rows(item) for number, item in zip(graph.outputs, found, strict=True)}


def largest(rows: np.ndarray) -> np.ndarray:
    """The largest magnitude in each column of values (V, K), zero in infinite ones: what a mask puts is not rounded."""
    low, high = column_extremes(rows)
    size = np.maximum(high, -low)
    return np.where(np.isinf(size), 0, size)


def finite_rows(rows: np.ndarray) -> np.ndarray:
    """Values (V, K) with numbers beyond all others in place of infinities, a copy where there are any."""
    # Where nothing jumps, an infinite entry is a constant, as masks put it before a maximum: it has no boundary of
    # its own. Its size says nothing about the rounding of others, which is measured before.
    first = rows[:1]
    endless = np.isinf(first)
    if not endless.any():
        return rows
    if not (~endless | (rows == first)).all():
        cure = "use float64 or smaller inputs; net(x) names the operator that overflows"
        raise PartitionError("an entry is infinite at some points and not at others", cure=cure)
    size = largest(rows).max()
    return np.where(endless, np.sign(first) * (2 * size if size > 0 else 1), rows)


def differences(level: Level, rows: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the operator after a level compares: first less second side, (V, K), and the larger size of both, (K,)."""
    step, boundaries = level.step, level.boundaries
    if step is None or not isinstance(boundaries, Comparisons):
        raise TypeError(f"no comparison follows the level before {level.name!r}")
    inputs = [level.operands.values[number].from_rows(rows[number]) for number in level.operands.inputs]
    value, found = level.operands.values[step.result], []
    for pair in boundaries.pairs(level.operands.run(inputs)):
        first, second = (torch.as_tensor(side, dtype=torch.float64) for side in (pair.first, pair.second))
        gap = difference(first, second)
        sides = [value.to_rows(side.expand_as(gap)).numpy() for side in (first, second)]
        found.append((finite_rows(value.to_rows(gap).numpy()), np.maximum(*map(largest, sides))))
    return found


def probes(rows: Rows) -> Rows:
    """A few rows with every entry drawn anew, up to its largest magnitude: nothing cancels as it may in the rows."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for number, table in rows.items():
        if table.is_floating_point():
            drawn = 2 * torch.rand(PROBES, table.shape[1], generator=generator, dtype=table.dtype) - 1
            found[number] = torch.where(table[0].isinf(), table[0], drawn * torch.from_numpy(largest(table.numpy())))
        else:
            found[number] = table[:1].expand(PROBES, -1)
    return found


def levels(graph: Graph, sorts: bool = False) -> tuple[Level, ...]:
    """Cut a graph in float64 before each of its piecewise-affine operators; a last level ends at the outputs."""
    _check_continuous(graph, sorts)
    places = [place for place, step in enumerate(graph.steps) if _piecewise(graph, step)]
    found, before = [], graph.inputs
    for place in (*places, len(graph.steps)):
        # What is alive at a cut is all that later steps read, so each level runs from the values at the cut before.
        after = _alive(graph, place)
        step = graph.steps[place] if place < len(graph.steps) else None
        found.append(Level(graph.part(after, before), graph.part(step.inputs if step else (), after), step))
        before = after
    return tuple(found)


def _alive(graph: Graph, place: int) -> tuple[int, ...]:
    """The dependent values, and inputs held fixed, that exist before a step and are still needed."""
    if place == len(graph.steps):
        return graph.outputs
    # Values that no input moves are computed anew wherever they are read; only the inputs among them cannot be.
    computed = {*graph.inputs, *(n for step in graph.steps[:place] for n in step.outputs if n is not None)}
    needed = [number for step in graph.steps[place:] for number in step.inputs] + list(graph.outputs)
    return tuple(dict.fromkeys(n for n in needed if n in computed and (_affine(graph, n) or n in graph.inputs)))


def _affine(graph: Graph, number: int) -> bool:
    """Whether a value moves with the input, affinely in a region."""
    return graph.values[number].dependence is Dependence.AFFINE


def _piecewise(graph: Graph, step: Step) -> bool:
    """Whether a step divides the plane: it has pieces, and what chooses among them moves."""
    affine = any(_affine(graph, number) for number in step.inputs)
    return affine and step.piecewise


def _check_continuous(graph: Graph, sorts: bool) -> None:
    """Refuse an operator whose value jumps or, unless it may sort, whose pieces no single function tells apart."""
    # Integers that the caller gives stay as they are all over the plane, and so does what follows from them alone.
    fixed = {number for number in graph.inputs if not _affine(graph, number)}
    for step in graph.steps:
        varying = [n for n in step.inputs if graph.values[n].dependence is not Dependence.CONSTANT and n not in fixed]
        if not varying:
            fixed.update(number for number in step.outputs if number is not None)
        if not varying or not step.records:  # a size is read off a value, and does not vary with it
            continue
        record = step.records[0]
        jumps = _piecewise(graph, step) and not record.continuous
        if jumps or any(not _affine(graph, number) for number in varying):
            reason = "it jumps: its value on a boundary depends on the side, so regions have no common corners"
        elif not sorts and record.pieces > 1 and _sorts(known_boundaries(step)):
            reason = "its pieces are told apart by the order of many entries, which planes and surfaces do not follow"
        else:
            continue
        cure = "partition the part of the network before it with until=, or replace it by a continuous operator"
        raise NotPiecewiseAffine(record.kind, reason, cure, record.module_path, record.source)


def _sorts(boundaries: Comparisons | Contest) -> bool:
    """Whether the order of many entries decides, not the sign of a difference or the largest entry."""
    return isinstance(boundaries, Contest) and boundaries.order is not Order.LARGEST
