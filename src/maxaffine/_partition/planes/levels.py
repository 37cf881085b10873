"""A network as levels: what is run between one piecewise-affine operator and the next, at any number of points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from maxaffine._graph import Boundaries, Comparisons, Contest, Dependence, Graph, Order, Step
from maxaffine._network import difference, without_infinities
from maxaffine._partition.refusal import known_boundaries
from maxaffine.errors import NotPiecewiseAffine, PartitionError

Rows = dict[int, Tensor]  # values by number, (V, K): a row per point, the units of one sample flattened

CHUNK_BYTES = 2**24
PROBES = 8


@dataclass(frozen=True)
class Level:
    """One stretch of a network.

    Attributes:
        graph: From the values of the level before to those of this one.
        operands: From this level's values to the inputs of the operator that follows.
        step: The piecewise-affine operator that follows; None after the last.
    """

    graph: Graph
    operands: Graph
    step: Step | None

    @cached_property
    def boundaries(self) -> Comparisons | Contest | None:
        """Where the operator's code changes; None after the last."""
        return None if self.step is None else known_boundaries(self.step)

    @property
    def name(self) -> str:
        """The operator's name."""
        return "" if self.step is None else self.step.records[0].name

    def bytes_per_point(self) -> int:
        """What the values of this level take at one point."""
        return 8 * sum(prod(self.graph.values[number].units) for number in self.graph.outputs)

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

    def run(self, rows: Rows) -> Rows:
        """Compute this level's values at points from those of the level before, in chunks that fit in a cache.

        Args:
            rows: Values of the level before.

        Returns:
            This level's values.
        """
        return run(self.graph, rows)


def run(graph: Graph, rows: Rows) -> Rows:
    """Run a part of a network at points given row by row.

    Args:
        graph: The part.
        rows: Its inputs.

    Returns:
        Its outputs.
    """
    count = len(next(iter(rows.values())))
    step = max(1, CHUNK_BYTES // (8 * graph.largest_value()))
    parts: list[list[Tensor]] = []
    for first in range(0, count, step):
        inputs = [graph.values[number].from_rows(rows[number][first : first + step]) for number in graph.inputs]
        found = zip(graph.outputs, graph.run(inputs), strict=True)
        parts.append([graph.values[number].to_rows(tensor) for number, tensor in found])
    joined = [items[0] if len(items) == 1 else torch.cat(items) for items in zip(*parts, strict=True)]
    return dict(zip(graph.outputs, joined, strict=True))


def largest(rows: Tensor) -> Tensor:
    """The largest magnitude in each column of values (V, K), zero in infinite ones: what a mask puts is not rounded.

    Args:
        rows: The values.

    Returns:
        (K,).
    """
    return without_infinities(torch.maximum(rows.amax(0), -rows.amin(0)))


def bounded(rows: Tensor) -> Tensor:
    """Values (V, K) with numbers beyond all others in place of infinities.

    Where nothing jumps, an infinite entry is a constant, as masks put it before a maximum: it has no boundary of
    its own. Its size says nothing about the rounding of others; measure them before.

    Args:
        rows: The values.

    Returns:
        Them, or a copy where one of them is infinite.

    Raises:
        PartitionError: Where an entry is infinite at some points only.
    """
    first = rows[:1]
    endless = first.isinf()
    if not endless.any():
        return rows
    if not (~endless | (rows == first)).all():
        cure = "use float64 or smaller inputs; net(x) names the operator that overflows"
        raise PartitionError("an entry is infinite at some points and not at others", cure=cure)
    size = largest(rows).max()
    return torch.where(endless, first.sign() * torch.where(size > 0, 2 * size, 1), rows)


def gaps(level: Level, rows: Rows) -> list[tuple[Tensor, Tensor]]:
    """What the operator after a level compares: first side less second, (V, K), and the larger magnitude of both, (K,).

    Args:
        level: The level.
        rows: Its values.

    Returns:
        For each comparison that a unit makes the difference, and the largest entry of each unit's two sides.

    Raises:
        TypeError: When an operator of another family follows the level.
    """
    step, boundaries = level.step, level.boundaries
    if step is None or not isinstance(boundaries, Comparisons):
        raise TypeError(f"no comparison follows the level before {level.name!r}")
    inputs = [level.operands.values[number].from_rows(rows[number]) for number in level.operands.inputs]
    value, found = level.operands.values[step.result], []
    for pair in boundaries.pairs(level.operands.run(inputs)):
        first, second = (torch.as_tensor(side, dtype=torch.float64) for side in (pair.first, pair.second))
        gap = difference(first, second)
        sides = [value.to_rows(side.expand_as(gap)) for side in (first, second)]
        found.append((bounded(value.to_rows(gap)), torch.maximum(*map(largest, sides))))
    return found


def probes(rows: Rows) -> Rows:
    """A few rows with every entry drawn anew, up to its largest magnitude: nothing that cancels in rows does in them.

    Args:
        rows: Values at points.

    Returns:
        Values of the same kind.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for number, table in rows.items():
        if table.is_floating_point():
            drawn = 2 * torch.rand(PROBES, table.shape[1], generator=generator, dtype=table.dtype) - 1
            found[number] = torch.where(table[0].isinf(), table[0], drawn * largest(table))
        else:
            found[number] = table[:1].expand(PROBES, -1)
    return found


def levels(graph: Graph) -> tuple[Level, ...]:
    """Cut a graph before each of its piecewise-affine operators.

    Args:
        graph: The graph, in float64.

    Returns:
        One level per operator, and one that ends at the outputs.

    Raises:
        NotPiecewiseAffine: For an operator whose value jumps, or whose pieces no single function tells apart.
    """
    _check_continuous(graph)
    places = [place for place, step in enumerate(graph.steps) if _piecewise(graph, step)]
    found, before = [], graph.inputs
    for place in (*places, len(graph.steps)):
        after = _alive(graph, place)
        step = graph.steps[place] if place < len(graph.steps) else None
        found.append(Level(graph.part(after, before), graph.part(step.inputs if step else (), after), step))
        before = after
    return tuple(found)


def _alive(graph: Graph, place: int) -> tuple[int, ...]:
    """The dependent values, and inputs held fixed, that exist before a step and are still needed."""
    if place == len(graph.steps):
        return graph.outputs
    computed = {*graph.inputs, *(n for step in graph.steps[:place] for n in step.outputs if n is not None)}
    needed = [number for step in graph.steps[place:] for number in step.inputs] + list(graph.outputs)
    return tuple(dict.fromkeys(n for n in needed if n in computed and (_affine(graph, n) or n in graph.inputs)))


def _affine(graph: Graph, number: int) -> bool:
    return graph.values[number].dependence is Dependence.AFFINE


def _piecewise(graph: Graph, step: Step) -> bool:
    affine = any(_affine(graph, number) for number in step.inputs)
    return affine and bool(step.records) and step.records[0].pieces > 1


def _check_continuous(graph: Graph) -> None:
    # Integers that the caller gives stay as they are all over the plane, and so does what follows from them alone.
    fixed = {number for number in graph.inputs if not _affine(graph, number)}
    for step in graph.steps:
        varying = [n for n in step.inputs if graph.values[n].dependence is not Dependence.HELD and n not in fixed]
        if not varying:
            fixed.update(number for number in step.outputs if number is not None)
        if not varying or not step.records:  # a size is read off a value, and does not vary with it
            continue
        record = step.records[0]
        jumps = _piecewise(graph, step) and not record.continuous
        if jumps or any(not _affine(graph, number) for number in varying):
            reason = "it jumps: its value on a boundary depends on the side, so regions have no common corners"
        elif record.pieces > 1 and not divides(known_boundaries(step)):
            reason = "its pieces are told apart by the order of many entries, which partitions of a plane do not follow"
        else:
            continue
        cure = "partition the part of the network before it with until=, or replace it by a continuous operator"
        raise NotPiecewiseAffine(record.kind, reason, cure, record.module_path, record.source)


def divides(boundaries: Boundaries) -> bool:
    """Whether boundaries are zeros of differences of two numbers each, or of entries of which the largest wins."""
    return isinstance(boundaries, Comparisons) or isinstance(boundaries, Contest) and boundaries.order is Order.LARGEST
