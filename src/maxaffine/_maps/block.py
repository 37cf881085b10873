"""One block of a batch: the graph's local affine map with the samples in front, whatever the layout of its values."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from maxaffine._graph import BatchAxis, Dependence, Graph, Linearization


def axis_of(graph: Graph, number: int) -> BatchAxis:
    """Where a value keeps its samples."""
    return graph.values[number].batch or BatchAxis()


class Block:
    """The affine map of a graph with one output at some inputs."""

    def __init__(self, graph: Graph, inputs: Sequence[Tensor]) -> None:
        self._graph = graph
        self._local = Linearization(graph, inputs)
        self._axis = axis_of(graph, graph.outputs[0])
        self._units = graph.values[graph.outputs[0]].units

    @property
    def value(self) -> Tensor:
        """The output (N, *units)."""
        return self._axis.to_front(self._local.outputs[0])

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.value.shape[0]

    def push(self, points: Sequence[Tensor], offset: bool) -> Tensor:
        """A v, or A v + b, (N, *units)."""
        return self._axis.to_front(self._local.push(points, offset)[0])

    def pull(self, front: Tensor) -> list[Tensor]:
        """A^T u for rows of weights (rows, N, all units): per floating-point input a tensor (N, rows, *in)."""
        pulled = self._local.pull([self._cotangent(front)])
        found = []
        for number in self._graph.inputs:
            value = self._graph.values[number]
            if number in pulled:
                found.append(axis_of(self._graph, number).to_front(pulled[number], lead=1).transpose(0, 1))
            elif value.dependence is Dependence.AFFINE:
                found.append(self.value.new_zeros(self.batch, len(front), *value.units))
        return found

    def rows(self, wanted: Tensor) -> list[Tensor]:
        """The rows of A for the wanted units, as :meth:`pull` gives them."""
        return self.pull(self._one_hot(wanted))

    def contributions(self, wanted: Tensor) -> dict[str, Tensor]:
        """What each operator's offset adds to the wanted units, (rows, N)."""
        return self._local.contributions([self._cotangent(self._one_hot(wanted))])

    def _one_hot(self, wanted: Tensor) -> Tensor:
        front = self.value.new_zeros(len(wanted), 1, prod(self._units))
        front[torch.arange(len(wanted)), 0, wanted] = 1
        return front.expand(-1, self.batch, -1)

    def _cotangent(self, front: Tensor) -> Tensor:
        shaped = front.reshape(*front.shape[:2], *self._units)
        return self._axis.from_front(shaped, self._local.outputs[0].shape, lead=1)
