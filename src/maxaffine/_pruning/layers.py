"""The layers of a network whose units could go: activations, the channels that they act on, and their boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._chunks import slices
from maxaffine._graph import (
    BatchAxis,
    Dependence,
    Graph,
    Knots,
    Linearization,
    OperatorRecord,
    Step,
    as_rows,
    as_tuple,
)
from maxaffine.errors import BadInput

AT_ONCE = 2**24  # numbers that the rows of a layer may take together


@dataclass(frozen=True, eq=False)
class Layer:
    """An activation with knots, and where the channels that it acts on come from.

    A unit is a channel: at every position of a map it has the same weights, so it goes as a whole or stays.
    """

    step: Step
    place: int  # of its step in the graph
    axis: int  # of its units, along which the channels lie
    channels: int
    positions: int
    makers: tuple[Step, ...]  # the steps with weights right before it
    ends: tuple[int, ...]  # the values that its argument is affine in
    joined: bool  # whether its argument joins several values, as a sum over a skip connection does
    fixed: bool  # whether that affine map is the same everywhere

    @property
    def record(self) -> OperatorRecord:
        """What the network says of the activation."""
        return self.step.records[0]

    @property
    def argument(self) -> int:
        """The number of the value that the activation acts on."""
        return self.step.inputs[self.step.active[0]]

    @property
    def knots(self) -> tuple[float, ...]:
        """Where its pieces meet."""
        boundaries = self.step.operator.boundaries()
        return boundaries.knots if isinstance(boundaries, Knots) else ()

    @property
    def scales(self) -> bool:
        """Whether c times the argument gives c times the value, for every c > 0."""
        return self.step.operator.traits.homogeneous and not any(self.knots)

    def by_channel(self, graph: Graph, tensor: Tensor) -> Tensor:
        """A value of the layer's shape as (channels, entries)."""
        batch = graph.values[self.step.result].batch or BatchAxis()
        return as_rows(batch.to_front(tensor)).unflatten(1, self._shape).movedim(self.axis + 1, 0).flatten(1)

    def by_entry(self, entries: np.ndarray) -> Tensor:
        """One number for each entry of one sample as (channels, positions)."""
        return torch.as_tensor(entries).reshape(self._shape).movedim(self.axis, 0).reshape(self.channels, -1)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.record.units or (1,)

    def with_channel(self, graph: Graph, tensor: Tensor, channel: int, entries: Tensor) -> Tensor:
        """A copy of a value of the layer's shape in which one channel has other entries."""
        batch = graph.values[self.step.result].batch or BatchAxis()
        front = batch.to_front(tensor)
        rows = as_rows(front).unflatten(1, self._shape).clone()
        chosen = rows.select(self.axis + 1, channel)
        chosen.copy_(entries.reshape(chosen.shape))
        return batch.from_front(rows.reshape(front.shape), tensor.shape)


def layers_of(net: Any) -> list[Layer]:
    """Every activation with knots, in running order; refused where there is none."""
    if not isinstance(net, SplineNetwork):
        raise BadInput(f"net: expected a SplineNetwork, got {type(net).__name__}; capture the module: ma.capture(...)")
    net.require_regions("units that are on one piece alone")
    graph = net.graph
    makers = {number: step for step in graph.steps for number in step.outputs if number is not None}
    found = [
        _layer(graph, makers, step, place)
        for place, step in enumerate(graph.steps)
        if step.active and step.records and isinstance(step.operator.boundaries(), Knots)
    ]
    if not found:
        raise BadInput(
            "net: it has no activation with knots (ReLU, leaky ReLU, ...), so no unit of it can be idle; capture the"
            " network whole"
        )
    return found


def _layer(graph: Graph, makers: dict[int, Step], step: Step, place: int) -> Layer:
    weighted, ends, open_ends, axes, fixed = [], [], [], [], True
    # Values to look at, and the steps from each to the activation, the last first.
    asked: list[tuple[int, tuple[Step, ...]]] = [(step.inputs[step.active[0]], ())]
    seen = set()
    while asked:
        number, after = asked.pop()
        before = makers.get(number)
        if number in seen:
            continue
        seen.add(number)
        if before is None or not before.active or before.piecewise:
            open_ends.append(number)
            continue
        taken = [before.inputs[at] for at in before.active]
        fixed &= all(graph.values[n].dependence in (Dependence.CONSTANT, Dependence.AFFINE) for n in before.inputs)
        if before.operator.channel_axis is None:
            asked += [(n, (*after, before)) for n in taken]
        else:
            weighted.append(before)
            axes.append(_carried(graph, before, after))
            ends += taken
    units = graph.values[step.result].units or (1,)
    axis = next((axis for axis in axes if axis is not None), 0) % len(units)
    joined, ends = len(weighted) + len(open_ends) > 1, tuple(sorted({*ends, *open_ends}))
    return Layer(step, place, axis, units[axis], prod(units) // units[axis], tuple(weighted), ends, joined, fixed)


def _carried(graph: Graph, maker: Step, after: Sequence[Step]) -> int | None:
    """Along which axis the channels of a step lie after others, the last first; None where along none alone."""
    axis, number = maker.operator.channel_axis, maker.result
    for step in reversed(after):
        old, new = graph.values[number].units, graph.values[step.result].units
        axis = None if axis is None else step.operator.carried(axis % max(1, len(old)), old, new)
        number = step.result
    return axis


@dataclass(frozen=True, eq=False)
class Rows:
    """The affine functions whose sign, or whose place between knots, each unit of a layer tells, in float64."""

    weights: Tensor  # (channels, D), at the position in the middle
    offsets: Tensor  # (channels,)
    mixed: Tensor  # (channels, D + 1), a random sum over all positions, of the offsets too
    functions: Tensor  # (channels,) numbers, equal for those whose activation is the same, as PReLU's with one slope


def rows_of(net: SplineNetwork, layer: Layer) -> Rows | None:
    """The affine functions of a layer's units of the values before it; None where they are not the same everywhere."""
    if not layer.fixed:
        return None
    graph = net.double().graph
    part = graph.part([layer.argument], layer.ends)
    if part.missing():
        return None
    inputs = [
        graph.values[n].from_rows(torch.zeros(1, prod(graph.values[n].units), dtype=torch.float64)) for n in layer.ends
    ]
    local = Linearization(part, [item.to(net.inputs.device) for item in inputs])
    value = graph.values[layer.argument]
    offsets = layer.by_channel(graph, local.outputs[0]).cpu()
    middle = torch.zeros(offsets.shape[1], dtype=torch.float64)
    middle[_middle([size for at, size in enumerate(value.units or (1,)) if at != layer.axis])] = 1
    mix = torch.rand(offsets.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slopes = [torch.cat([*_pulled(graph, layer, local, weighing)]) for weighing in (middle, mix)]
    mixed = torch.cat([slopes[1], (offsets @ mix)[:, None]], 1)
    return Rows(slopes[0], offsets @ middle, mixed, _functions(graph, layer, local.outputs[0]))


def _functions(graph: Graph, layer: Layer, like: Tensor) -> Tensor:
    """The number of each channel's function: two channels have the same where it takes the same values."""
    step = graph.steps[layer.place]
    if len(step.inputs) > 1:
        return torch.arange(layer.channels)
    # Two places inside each piece and one on each knot tell apart all functions with these knots.
    ends = [layer.knots[0] - 3, *layer.knots, layer.knots[-1] + 3]
    places = [low + (high - low) * share for low, high in pairwise(ends) for share in (1 / 3, 2 / 3)]
    values = [as_tuple(step.operator(torch.full_like(like, place)))[0] for place in (*places, *layer.knots)]
    rows = torch.cat([layer.by_channel(graph, value) for value in values], 1)
    return torch.unique(rows, dim=0, return_inverse=True)[1].cpu()


def _middle(sizes: list[int]) -> int:
    """The flat number of the position in the middle of a map."""
    found = 0
    for size in sizes:
        found = found * size + size // 2
    return found


def _pulled(graph: Graph, layer: Layer, local: Linearization, weighing: Tensor) -> Iterator[Tensor]:
    """For some channels at a time, (rows, D): their slopes, summed over positions by weight."""
    like, device = local.outputs[0], local.outputs[0].device
    batch = graph.values[layer.argument].batch or BatchAxis()
    front = batch.to_front(like)
    width = sum(prod(graph.values[n].units) for n in layer.ends) + front.numel()
    shape = [size for at, size in enumerate(layer.record.units or (1,)) if at != layer.axis]
    for at in slices(layer.channels, AT_ONCE // width):
        rows = torch.zeros(at.stop - at.start, 1, *layer.record.units or (1,), dtype=torch.float64, device=device)
        for row, channel in enumerate(range(at.start, at.stop)):
            rows[row].select(layer.axis + 1, channel)[0] = weighing.reshape(shape)
        rows = rows.reshape(len(rows), *front.shape)
        pulled = local.pull([batch.from_front(rows, like.shape, lead=1)])
        yield torch.cat([_flat(graph, n, pulled.get(n), len(rows)) for n in layer.ends], 1)


def _flat(graph: Graph, number: int, rows: Tensor | None, count: int) -> Tensor:
    value = graph.values[number]
    if rows is None:
        return torch.zeros(count, prod(value.units), dtype=torch.float64)
    return (value.batch or BatchAxis()).to_front(rows, lead=1).reshape(count, -1).double().cpu()


def batches(net: SplineNetwork, data: Any, size: int) -> Iterable[tuple[Tensor, ...]]:
    """The inputs in batches, each as one tensor per input of the network, from tensors or a loader; twice alike."""
    if isinstance(data, Tensor | tuple | dict) or (isinstance(data, list) and all(isinstance(i, Tensor) for i in data)):
        tensors = net.inputs.tensors(data)
        axes = net.inputs.batch_dims
        parts = [item.split(size, axis) for item, axis in zip(tensors, axes, strict=True)]
        return list(zip(*parts, strict=True))
    if not isinstance(data, Iterable):
        raise BadInput(f"data: expected inputs or a loader of batches, got {type(data).__name__}")
    if iter(data) is data:
        raise BadInput("data: an iterator can be read once only, and it is read twice; give a loader or a tensor")
    return _Loaded(net, data)


class _Loaded:
    """The batches of a loader, without their labels."""

    def __init__(self, net: SplineNetwork, loader: Iterable) -> None:
        self.net, self.loader = net, loader

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        empty = True
        for item in self.loader:
            empty = False
            labeled = isinstance(item, tuple | list) and len(item) == len(self.net.inputs.names) + 1
            inputs = item[:-1] if labeled else item
            alone = isinstance(inputs, tuple | list) and len(inputs) == 1
            yield self.net.inputs.tensors(inputs[0] if alone else inputs)
        if empty:
            raise BadInput("data: the loader gave no batch; give at least one input")
