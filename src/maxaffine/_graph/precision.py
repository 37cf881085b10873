"""The same graph in float64: every parameter, constant and conversion on the way."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph.contract import Operator
from maxaffine._graph.graph import Graph, Value
from maxaffine._graph.linear import ChannelAffine
from maxaffine._graph.mapping import KEPT, mapped

FAR = 2.0**24  # so far out that a batch-norm's shift does not round its scale


def in_float64(graph: Graph) -> Graph:
    """The function that a graph's parameters define, computed in float64; itself where everything is already."""
    if all(value.dtype in (None, torch.float64) or not value.dtype.is_floating_point for value in _values_in(graph)):
        return graph
    steps = tuple(replace(step, operator=_widen(step.operator)) for step in graph.steps)
    values = {number: replace(value, dtype=_widen(value.dtype)) for number, value in graph.values.items()}
    return replace(graph, steps=steps, values=values)


def in_float32(operator: Operator) -> Operator:
    """An operator with its numbers rounded to single precision."""
    return mapped(operator, _narrower)


def _narrower(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.float() if item.dtype == torch.float64 else item
    return torch.float32 if isinstance(item, torch.dtype) and item == torch.float64 else KEPT


def _values_in(graph: Graph) -> list[Value]:
    numbers = {*graph.inputs, *(n for step in graph.steps for n in (*step.inputs, *step.outputs) if n is not None)}
    return [graph.values[number] for number in numbers]


def _widen(item: Any) -> Any:
    """Anything an operator holds, its floating-point tensors and types in float64."""
    return mapped(item, _wider)


def _wider(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.to(_wider(item.dtype))
    if isinstance(item, torch.dtype):
        return torch.float64 if item.is_floating_point else torch.complex128 if item.is_complex else item
    # What an operator has computed from its own arguments must follow from the wider ones.
    return _rescale(item) if isinstance(item, ChannelAffine) else KEPT


def _rescale(operator: ChannelAffine) -> ChannelAffine:
    """Scale and shift found anew: those that the operator holds were rounded to its own type."""
    traced = _widen(operator.traced)
    # shift = f(0) and scale = (f(t) - f(-t)) / 2t, of the operator itself with its statistics widened.
    like = torch.zeros(1, len(operator.scale), 1, dtype=torch.float64, device=operator.scale.device)
    shift = _first(traced(like))
    scale = (_first(traced(like + FAR)) - _first(traced(like - FAR))) / (2 * FAR)
    return replace(operator, traced=traced, scale=scale.flatten(), shift=shift.flatten())


def _first(value: Any) -> Tensor:
    return value[0] if isinstance(value, tuple | list) else value
