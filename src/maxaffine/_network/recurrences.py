"""The recurrences of a network, their steps placed in the time of its input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from maxaffine._graph import BatchAxis, Dependence, Graph, Linearization, recurrences
from maxaffine._network.network import Network
from maxaffine.errors import BadInput

TRIED = 8  # random inputs, so that no state is silent at all of them


@dataclass(frozen=True, eq=False)
class TimedRecurrence:
    """A layer's walk over time, in one direction.

    Attributes:
        name: The path of its module, or the operator that makes its states where that is the network itself, with the
            number of the layer and the direction where there are several.
        states: Numbers in the graph of its states, in the order of time.
        operators: Of each step the names of the operators with codes that make its state, in the order of time.
        backward: Whether it runs from the last step to the first.
        begins: Whether its initial state is given; else it begins at a constant.
        timed: Whether it has a state for every step of the input; else its steps are counted as they run.
    """

    name: str
    states: tuple[int, ...]
    operators: tuple[tuple[str, ...], ...]
    backward: bool
    begins: bool
    timed: bool

    @property
    def final(self) -> int:
        """The number of the state that it ends with."""
        return self.states[0 if self.backward else -1]


def timed_recurrences(net: Network, axis: int = 0, input: int = 0) -> tuple[TimedRecurrence, ...]:
    """Every recurrence in a network, placed along an axis of one sample of a floating-point input."""
    graph = net.graph
    floating = [number for number in graph.inputs if graph.values[number].dependence is Dependence.AFFINE]
    if not 0 <= input < len(floating):
        raise BadInput(f"input: {input} is not one of the {len(floating)} floating-point inputs; the first is 0")
    units = graph.values[floating[input]].units
    if not -len(units) <= axis < len(units):
        raise BadInput(
            f"axis: one input has shape {units}, and so no axis {axis}; time is one of 0..{len(units) - 1}, counted"
            " without the axis of the samples"
        )
    axis %= len(units)
    records = {number: step.records[0] for step in graph.steps if step.records for number in step.outputs}
    times: dict[int, int] = {}  # of the states placed so far
    found = []
    for one in recurrences(graph):
        heard = _heard(graph, one.states[0], floating[input], axis, times)
        last = units[axis] - 1
        # A walk over time begins at one end of it; one over depth, with tied weights, hears both from the first.
        timed = len(one.states) == units[axis] and (0 in heard) != (last in heard)
        backward = last in heard and 0 not in heard
        order = -1 if backward else 1
        states, operators = one.states[::order], one.operators[::order]
        if timed:
            times.update((number, time) for time, number in enumerate(states))
        record = records[one.states[0]]
        name = record.module_path or record.name
        found.append(TimedRecurrence(name, states, operators, backward, one.begins, timed))
    return tuple(replace(one, name=_title(one, found)) for one in found)


def _title(one: TimedRecurrence, found: list[TimedRecurrence]) -> str:
    """A name that no other has: with the layer and the direction."""
    alike = [other for other in found if (other.name, other.backward) == (one.name, one.backward)]
    layer = f", layer {alike.index(one) + 1}" if len(alike) > 1 else ""
    return f"{one.name}{layer}{', backward' if one.backward else ''}"


def _heard(graph: Graph, state: int, number: int, axis: int, times: dict[int, int]) -> set[int]:
    """The steps of the input that a state hears directly, or by way of earlier layers' states."""
    # Of a second layer in two directions every state hears every step, but directly that of its own time alone.
    starts = (*graph.inputs, *times)
    part = graph.part([state], starts)
    generator = torch.Generator().manual_seed(0)

    def normal(value: int) -> Tensor:
        about = graph.values[value]
        rows = torch.randn(TRIED, prod(about.units), generator=generator)
        # Whole numbers, such as lengths, choose among what there is: the first is always there.
        whole = about.dtype is None or not about.dtype.is_floating_point
        return about.from_rows((torch.ones_like(rows) if whole else rows).to(about.dtype))

    local = Linearization(part, [normal(start) for start in starts])
    pulled = local.pull([normal(state).unsqueeze(0)])
    front = (graph.values[number].batch or BatchAxis()).to_front(pulled[number], lead=1) if number in pulled else None
    heard = set() if front is None else set(front.movedim(2 + axis, 0).flatten(1).any(1).nonzero()[:, 0].tolist())
    return heard | {times[value] for value, item in pulled.items() if value in times and bool(item.any())}
