"""What the units of an operator inside a network add to its outputs, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import BatchAxis, Linearization, as_rows
from maxaffine._network.network import Network
from maxaffine.errors import BadInput


def shares(
    net: Network, x: Any, operator: str, outputs: Sequence[int] | None = None, output: int | None = None
) -> Tensor:
    """What `SplineNetwork.shares` says."""
    number, inside = net.target(None, output), net.target(operator, None, "operator")
    graph = net.graph.part([number])
    if inside not in graph.carried() or not any(inside in step.outputs for step in graph.steps):
        raise BadInput(
            f"operator: {operator!r} carries no share of the output; it comes after it, or only gates what does (as"
            " queries, keys and masks do)"
        )
    tensors = net.inputs.tensors(x)
    local = Linearization(graph, tensors)
    value, axis = graph.values[number], graph.values[number].batch or BatchAxis()
    rows = as_rows(axis.to_front(local.outputs[0]))
    wanted = list(range(rows.shape[1])) if outputs is None else list(outputs)
    if not all(0 <= unit < rows.shape[1] for unit in wanted):
        raise BadInput(f"outputs: the output has the units 0..{rows.shape[1] - 1}, got {wanted}")
    units = torch.arange(rows.shape[1], device=rows.device)
    one_hot = ((units == unit).to(rows).expand(len(rows), -1).reshape(len(rows), *value.units) for unit in wanted)
    cotangents = ([axis.from_front(weights, local.outputs[0].shape).unsqueeze(0)] for weights in one_hot)
    found = local.shares(tensors, cotangents, inside)
    return (graph.values[inside].batch or BatchAxis()).to_front(found, lead=1).transpose(0, 1)
