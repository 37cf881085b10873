"""How far an output is ahead of another, or of the largest of all others, as the end of a network's graph."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from maxaffine._capture import capture
from maxaffine._graph import BatchAxis, Graph
from maxaffine.errors import BadInput

OTHERS = "others"


class _Margin(nn.Module):
    """From outputs (N, K) to what one of them is ahead by, (N, 1)."""

    def __init__(self, count: int, output: int, against: int | str) -> None:
        super().__init__()
        self.output = output
        self.rivals = [k for k in range(count) if k == against or (against == OTHERS and k != output)]

    def forward(self, outputs: Tensor) -> Tensor:
        others = outputs[:, self.rivals]
        return outputs[:, self.output].unsqueeze(1) - (others if len(self.rivals) == 1 else others.amax(1, True))


def with_margin(graph: Graph, output: int, against: int | str) -> Graph:
    """A graph of one output, a row of numbers, that goes on to what one of them is ahead by."""
    (end,) = graph.outputs
    value = graph.values[end]
    count = value.units[0] if len(value.units) == 1 else 0
    whole = isinstance(against, int) and not isinstance(against, bool) and 0 <= against < count
    if not (whole or against == OTHERS) or against == output or count < 2 or value.batch != BatchAxis():
        raise BadInput(
            f"against: expected the number of another output or {OTHERS!r}, of a network with rows of outputs, got"
            f" {against!r}; outputs have shape {value.units}"
        )
    head = capture(_Margin(count, output, against), torch.zeros(2, count, dtype=torch.float64)).graph
    first = max(graph.values) + 1
    number = {n: n + first for n in head.values} | {head.inputs[0]: end}
    steps = [
        replace(
            step,
            inputs=tuple(number[n] for n in step.inputs),
            outputs=tuple(None if n is None else number[n] for n in step.outputs),
        )
        for step in head.steps
    ]
    values = {number[n]: item for n, item in head.values.items()} | graph.values
    return Graph(values, (*graph.steps, *steps), graph.inputs, tuple(number[n] for n in head.outputs))
