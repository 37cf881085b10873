"""The segment between two inputs of a network, and which output is followed along it.

A network may take several tensors and give several, of any layout; a line needs none of that. What these two classes
hide is how places t from 0 to 1 become batches of inputs, and which numbers of the outputs are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Dependence, Graph, as_rows, fold
from maxaffine._maps import AffineMap
from maxaffine._network import Task, terms
from maxaffine._partition.inputs import one_input
from maxaffine.errors import BadInput

POINT_BYTES = 64 * 2**20  # of inputs held at once


@dataclass(frozen=True)
class Segment:
    """x(t) = (1 - t) x0 + t x1 for t from 0 to 1, in float64."""

    net: SplineNetwork  # the network, in float64
    start: tuple[Tensor, ...]  # x0, one tensor per input of the network, a batch of one each
    end: tuple[Tensor, ...]  # x1, likewise

    @property
    def inputs(self) -> list[tuple[Tensor, Tensor, int]]:
        """Both ends of each input of the network, and where it keeps its samples."""
        return list(zip(self.start, self.end, self.net.inputs.batch_dims, strict=True))

    def points(self, t: Tensor) -> tuple[Tensor, ...]:
        """The inputs x(t): a batch of len(t) for each input of the network."""
        found = []
        for a, b, dim in self.inputs:
            weight = t.view([len(t) if axis == dim else 1 for axis in range(a.dim())])
            rows = torch.lerp(a, b, weight) if a.is_floating_point() else a.repeat_interleave(len(t), dim)
            found.append(rows.contiguous())
        return tuple(found)

    def direction(self, count: int) -> tuple[Tensor, ...]:
        """x1 - x0, ``count`` equal rows for each input; zeros for one that is not floating point."""
        return tuple((b - a).repeat_interleave(count, dim) for a, b, dim in self.inputs)

    def batch(self, t: Tensor) -> Any:
        """The same as the network takes them."""
        return self.net.inputs.nest(self.points(t))


def segment(net: SplineNetwork, x0: Any, x1: Any) -> Segment:
    """The checked segment from x0 to x1."""
    start, end = one_input(net, x0, "x0"), one_input(net, x1, "x1")
    for a, b, name in zip(start, end, net.inputs.names, strict=True):
        if not a.is_floating_point() and not torch.equal(a, b):
            raise BadInput(f"x1: {name} is not floating point, so it cannot move; give it the same value as in x0")
    return Segment(net.double(), start, end)


class Target:
    """One output of a network, or some of its units, along a segment; arguments as of :func:`line`."""

    def __init__(
        self,
        captured: SplineNetwork,
        segment: Segment,
        outputs: Sequence[int] | Tensor | None,
        until: str | None,
        output: int | str | None,
    ) -> None:
        self.captured = captured
        self.segment = segment
        self.until = until
        self.output = output
        middle = torch.full((1,), 0.5, dtype=torch.float64, device=segment.start[0].device)
        # One affine map refuses whatever is unknown: a unit, a name, an output.
        amap = segment.net.affine_map(segment.batch(middle), outputs=outputs, until=until, output=output)
        self.outputs = None if outputs is None else torch.as_tensor(outputs)
        self.out_shape = amap.out_shape
        self.number = segment.net.target(until, output)
        value = self.graph.values[self.number]
        if value.dependence is not Dependence.AFFINE:
            raise BadInput("output: it is piecewise constant (a comparison, an index); name another with until=")

    @cached_property
    def graph(self) -> Graph:
        """The part of the network up to the output, batch-norms folded into the convolutions before them."""
        return fold(self.segment.net.graph.part([self.number]))

    @property
    def task(self) -> Task:
        """What the output answers; some of its units alone answer nothing of their own."""
        return self.captured.task_at(self.number)

    def chosen(self, front: Tensor) -> Tensor:
        """The wanted units of values (rows, *units): (rows, *out)."""
        return front if self.outputs is None else as_rows(front)[:, self.outputs.to(front.device)]

    def maps(self, t: Tensor, **options) -> AffineMap:
        """The affine maps at x(t), as of :meth:`SplineNetwork.affine_map`."""
        names = {"outputs": self.outputs, "until": self.until, "output": self.output} | options
        return self.segment.net.affine_map(self.segment.batch(t), **names)

    def terms(self, t: Tensor, u: Tensor) -> Tensor:
        """The size of the terms that <u, f(x(t))> is made of, for weights (len(t), *out): (len(t),)."""
        if self.outputs is not None:
            # Terms are those of the whole value: of the wanted units the weights are put where these stand in it.
            units = self.graph.values[self.number].units
            full = u.new_zeros(len(u), prod(units)).index_add_(1, self.outputs.to(u.device), as_rows(u))
            u = full.reshape(len(u), *units)
        parts = self.chunks(t)
        points = (self.segment.points(part) for part in parts)
        weights = u.split([len(part) for part in parts])
        found = [
            terms(self.segment.net, self.number, x, x, weight, offset=True)
            for x, weight in zip(points, weights, strict=True)
        ]
        return torch.cat(found)

    def chunks(self, t: Tensor, rows: int = 1) -> Sequence[Tensor]:
        """Places along the segment in runs for which ``rows`` tensors like the inputs fit in memory."""
        size = rows * sum(item.numel() * item.element_size() for item in self.segment.start)
        return t.split(max(1, POINT_BYTES // max(size, 1)))

    def slopes(self, t: Tensor) -> Tensor:
        """D f(x(t)) / dt, (len(t), *out)."""
        return torch.cat([self.maps(part).mv(self.segment.direction(len(part))) for part in self.chunks(t)])
