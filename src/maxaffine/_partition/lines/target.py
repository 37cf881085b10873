"""Which output of a network is followed along a segment, and its affine maps there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Dependence, Graph, as_rows
from maxaffine._maps import AffineMap
from maxaffine._network import Task, terms
from maxaffine._partition.lines.segment import Segment
from maxaffine.errors import BadInput

POINT_BYTES = 64 * 2**20  # of inputs held at once


class Target:
    """One output, or some of its units, along a segment.

    Args:
        captured: The network as it was captured.
        segment: The segment, with the network in float64.
        outputs: Flat numbers of the units to keep; all by default.
        until: Name of an operator or module to stop after.
        output: Which output, for a network with several.

    Raises:
        BadInput: For an unknown name or unit, or an output that does not depend on the input.
    """

    def __init__(
        self,
        captured: SplineNetwork,
        segment: Segment,
        outputs: Sequence[int] | Tensor | None,
        until: str | None,
        output: int | None,
    ) -> None:
        self.captured = captured
        self.segment = segment
        self.until = until
        self.output = output
        middle = segment.points(torch.full((1,), 0.5, dtype=torch.float64, device=segment.start[0].device))
        amap = segment.net.affine_map(segment.packed(middle), outputs=outputs, until=until, output=output)
        self.outputs = None if outputs is None else torch.as_tensor(outputs)
        self.out_shape = amap.out_shape
        self.number = segment.net.places[until] if until is not None else segment.net.graph.outputs[output or 0]
        value = self.graph.values[self.number]
        if value.dependence is not Dependence.AFFINE:
            raise BadInput("output: it is piecewise constant (a comparison, an index); name another with until=")

    @cached_property
    def graph(self) -> Graph:
        """The part of the network up to the output."""
        return self.segment.net.graph.part([self.number])

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
        return self.segment.net.affine_map(self.segment.packed(self.segment.points(t)), **names)

    def terms(self, t: Tensor, u: Tensor) -> Tensor:
        """The size of the terms that <u, f(x(t))> is made of, for weights (len(t), *out): (len(t),)."""
        if self.outputs is not None:
            units = self.graph.values[self.number].units
            full = u.new_zeros(len(u), prod(units)).index_add_(1, self.outputs.to(u.device), as_rows(u))
            u = full.reshape(len(u), *units)
        found, first = [], 0
        for part in self.chunks(t):
            x = self.segment.points(part)
            found.append(terms(self.segment.net, self.number, x, x, u[first : first + len(part)], offset=True))
            first += len(part)
        return torch.cat(found)

    def chunks(self, t: Tensor, rows: int = 1) -> Iterator[Tensor]:
        """Places along the segment in runs for which ``rows`` tensors like the inputs fit in memory."""
        size = rows * sum(item.numel() * item.element_size() for item in self.segment.start)
        return iter(t.split(max(1, POINT_BYTES // max(size, 1))))

    def slopes(self, t: Tensor) -> Tensor:
        """D f(x(t)) / dt, (len(t), *out)."""
        parts = [self.maps(part).mv(self.segment.direction(len(part))) for part in self.chunks(t)]
        return torch.cat(parts)

    @property
    def units(self) -> int:
        """Number of wanted units."""
        return prod(self.out_shape)
