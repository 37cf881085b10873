"""The frozen graph: values, the steps that compute them, and how to run all of it or a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine._graph.contract import Operator, OperatorRecord
from maxaffine._graph.frozen import Held, Slot, as_tuple
from maxaffine.errors import NotPiecewiseAffine

SIZE = torch.ops.aten.sym_size.int


class Dependence(Enum):
    """How a value depends on the network's input."""

    CONSTANT = "constant"  # on the batch size alone
    REGION = "region"  # piecewise constant: a comparison, an index, and what is computed from them
    HELD = "held"  # as any function: it enters an affine map with the value that it has at the input only
    AFFINE = "affine"  # piecewise affine


CARRYING = (Dependence.AFFINE, Dependence.HELD)


@dataclass(frozen=True)
class BatchAxis:
    """Where a value keeps its samples: entry (o, n, i) of axis ``dim``, read as outer x N x inner, is sample n's."""

    dim: int = 0
    outer: int = 1
    inner: int = 1

    @property
    def plain(self) -> bool:
        """Whether the samples are the first axis."""
        return (self.dim, self.outer, self.inner) == (0, 1, 1)

    def to_front(self, tensor: Tensor, lead: int = 0) -> Tensor:
        """Move the samples to axis ``lead``: (..., N, *units), the unit axes in their own order."""
        if self.plain:
            return tensor
        dim = self.dim + lead
        split = tensor.unflatten(dim, (self.outer, -1, self.inner)).movedim(dim + 1, lead)
        # With the samples in front, the outer and the inner part follow the axes before; of size one they are none.
        split = split.squeeze(dim + 2) if self.inner == 1 else split
        return split.squeeze(dim + 1) if self.outer == 1 else split

    def from_front(self, tensor: Tensor, shape: Sequence[int], lead: int = 0) -> Tensor:
        """Undo :meth:`to_front` for a value of the given shape (without the ``lead`` leading axes)."""
        if self.plain:
            return tensor
        before, after = shape[: self.dim], shape[self.dim + 1 :]
        split = tensor.reshape(*tensor.shape[: lead + 1], *before, self.outer, self.inner, *after)
        return split.movedim(lead, lead + self.dim + 1).reshape(*tensor.shape[:lead], *shape)

    def units(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one sample's part of a value of this shape."""
        middle = [size for size in (self.outer, self.inner) if size > 1]
        return (*shape[: self.dim], *middle, *shape[self.dim + 1 :])


def as_rows(front: Tensor) -> Tensor:
    """Values (N, *units) as (N, K): a row per sample, also of units without a shape and of no units at all."""
    return front.unsqueeze(1).flatten(1)


@dataclass(frozen=True)
class Value:
    """One tensor (or size) of the graph."""

    dependence: Dependence  # on the input
    units: tuple[int, ...] = ()  # its shape for one sample
    batch: BatchAxis | None = None  # where it keeps its samples; None when it has none
    dtype: torch.dtype | None = None  # None for a size

    def to_rows(self, tensor: Tensor) -> Tensor:
        """The value as (N, K): a row per sample, its units flattened."""
        front = tensor[None] if self.batch is None else self.batch.to_front(tensor)
        return front if front.dim() == 2 else front.reshape(front.shape[0], prod(self.units))

    def from_rows(self, rows: Tensor) -> Tensor:
        """Undo :meth:`to_rows`: rows (N, K) as the network keeps the value."""
        axis = self.batch
        if axis is None:
            return rows[0].reshape(self.units)
        if axis.plain:
            return rows if len(self.units) == 1 else rows.reshape(len(rows), *self.units)
        inner = (axis.outer > 1) + (axis.inner > 1)
        before, after = self.units[: axis.dim], self.units[axis.dim + inner :]
        shape = (*before, axis.outer * len(rows) * axis.inner, *after)
        return axis.from_front(rows.reshape(len(rows), *self.units), shape)


@dataclass(frozen=True)
class Step:
    """One operator applied to values, by their numbers."""

    operator: Operator
    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]  # None for one that nobody uses
    records: tuple[OperatorRecord, ...]  # two for a folded pair; none where nothing depends on the input
    active: tuple[int, ...] = ()  # positions of the inputs on which it depends affinely
    held: tuple[int, ...] = ()  # positions of the inputs that it holds at the input of the network: gates
    refusal: tuple[str, ...] = ()  # why no affine map leads through it (operator, reason, cure, module, source)

    def run(self, values: dict[int, Any]) -> tuple[list[Any], Any]:
        """Compute this step's outputs (tensors and sizes) into ``values``; returns its inputs and its own value."""
        inputs = [values[number] for number in self.inputs]
        value = self.operator(*inputs)
        for number, item in zip(self.outputs, as_tuple(value), strict=False):
            if number is not None:
                values[number] = item
        return inputs, value

    @property
    def result(self) -> int:
        """Number of the first output that is used."""
        return next(number for number in self.outputs if number is not None)

    @property
    def piecewise(self) -> bool:
        """Whether its units have several affine pieces."""
        return bool(self.records) and self.records[0].pieces > 1


@dataclass(frozen=True)
class Graph:
    """A network frozen into steps in the order in which they run."""

    values: dict[int, Value]  # what is known of every value, by number
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]  # numbers of the values that the caller gives
    outputs: tuple[int, ...]  # numbers of the values that the network returns

    def walk(self, inputs: Sequence[Tensor]) -> Iterator[tuple[Step, list[Any], Any, dict[int, Any]]]:
        """Run step by step, forgetting each value after its last use."""
        values: dict[int, Any] = dict(zip(self.inputs, inputs, strict=True))
        for step, unneeded in zip(self.steps, self._unneeded, strict=True):
            arguments, value = step.run(values)
            yield step, arguments, value, values
            # Nor may names here or at the caller keep a value while the next step runs: its memory is wanted there.
            del arguments, value
            for number in unneeded:
                values.pop(number, None)

    @cached_property
    def _unneeded(self) -> tuple[tuple[int, ...], ...]:
        """The values that no later step reads, after each step."""
        # Later steps overwrite earlier ones, so what is left is each value's last use.
        last_use = {number: position for position, step in enumerate(self.steps) for number in step.inputs}
        passed = ({*step.inputs, *step.outputs}.difference(self.outputs) for step in self.steps)
        return tuple(
            tuple(number for number in numbers if number is not None and last_use.get(number, -1) <= position)
            for position, numbers in enumerate(passed)
        )

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs at these inputs, computed as the user's module computes them."""
        values: dict[int, Any] = dict(zip(self.inputs, inputs, strict=True))
        for found in self.walk(inputs):
            values = found[-1]
            del found  # it holds the step's values
        return [values[number] for number in self.outputs]

    def codes(self, inputs: Sequence[Tensor]) -> Iterator[tuple[OperatorRecord, Tensor]]:
        """Every piecewise-affine operator's codes (N, *units), in running order."""
        for step, arguments, value, _ in self.walk(inputs):
            piecewise = step.piecewise
            codes = step.operator.codes(arguments, value) if piecewise else None
            del arguments, value
            if codes is not None:
                batch = self.values[step.result].batch or BatchAxis()
                yield step.records[0], batch.to_front(codes)

    def part(self, outputs: Sequence[int], inputs: Sequence[int] | None = None) -> Graph:
        """The sub-graph from ``inputs`` (default: the network's own) to ``outputs``, with only the steps it needs."""
        starts = self.inputs if inputs is None else tuple(inputs)
        needed = set(outputs).difference(starts)
        kept: list[Step] = []
        for step in reversed(self.steps):  # those that use a value come after the one that computes it
            if needed.isdisjoint(step.outputs):
                continue
            step = step if inputs is None else self._measure_at(step, starts[0])
            wanted = tuple(n if n in needed else None for n in step.outputs)
            kept.append(step if wanted == step.outputs else replace(step, outputs=wanted))
            needed.update(n for n in step.inputs if n not in starts)
        return Graph(self.values, tuple(reversed(kept)), starts, tuple(outputs))

    def carriers(self) -> set[int]:
        """Values that carry a share of the outputs: others are constant, or held where the network has its input."""
        # Whether an operator has an affine map at all matters for these only: what lies upstream of gates alone, such
        # as queries and keys, may be any function.
        found = set(self.outputs)
        # From the outputs back: a step passes the question on to its inputs, but for those that it holds.
        for step in reversed(self.steps):
            moving = (n for n in step.outputs if n in found and self.values[n].dependence in CARRYING)
            if next(moving, None) is None:
                continue
            if step.refusal:
                raise NotPiecewiseAffine(*step.refusal)
            taken = (number for place, number in enumerate(step.inputs) if place not in step.held)
            found.update(number for number in taken if self.values[number].dependence in CARRYING)
        return found

    def _measure_at(self, step: Step, start: int) -> Step:
        """A step that reads the number of samples off the network's input, reading it off the value ``start``."""
        axis = self.values[start].batch
        if not isinstance(step.operator, Held) or step.operator.target is not SIZE or axis is None:
            return step
        # The part is run without the network's input, and the number of samples is the same in every value.
        operator = replace(step.operator, args=(Slot(0), axis.dim), kwargs={})
        return replace(step, operator=operator, inputs=(start,))

    def whole_numbers(self) -> set[int]:
        """The sizes of whole numbers that are written in the arguments of its constant steps."""
        held = [step.operator for step in self.steps if isinstance(step.operator, Held)]
        leaves = tree_leaves([(operator.args, operator.kwargs) for operator in held])
        return {abs(item) for item in leaves if isinstance(item, int)}

    def missing(self) -> set[int]:
        """Values that some step or output needs but nothing computes."""
        known = set(self.inputs).union(*(step.outputs for step in self.steps))
        return {n for step in self.steps for n in step.inputs if n not in known} | set(self.outputs) - known

    def largest_value(self) -> int:
        """Entries per sample of the largest value that depends on the input; 1 where all are empty."""
        numbers = {n for step in self.steps for n in (*step.inputs, *step.outputs) if n is not None}
        sizes = [prod(self.values[n].units) for n in numbers if self.values[n].dependence is Dependence.AFFINE]
        return max([1, *sizes])

    def gates(self) -> int:
        """Entries per sample, about, that its local maps hold at the input; none where it is piecewise affine."""
        held = [step.held or (step.active if step.operator.traits.held else ()) for step in self.steps]
        pairs = zip(self.steps, held, strict=True)
        return sum(prod(self.values[step.inputs[place]].units) for step, places in pairs for place in places)
