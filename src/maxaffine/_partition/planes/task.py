"""What is to be partitioned: a polygon of a plane, and the part of a network that divides it.

Every argument is checked here, before any work: what comes out is plain data that two calls read, one that keeps the
cells in memory and one that writes them to a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Dependence
from maxaffine._partition.inputs import require_network
from maxaffine._partition.planes.complex import Complex
from maxaffine._partition.planes.frame import (
    Frame,
    input_plane,
    inside,
    plane_along,
    plane_through,
    polygon,
    stack_inputs,
)
from maxaffine._partition.planes.levels import Level, Rows, levels
from maxaffine._partition.planes.spokes import Known, draw_spokes, ties
from maxaffine.errors import BadInput

TOLERANCE = 1e-10
MEMORY = 64 * 2**20
ROUNDING = 8 * float(np.finfo(np.float64).eps)
KEPT_OUTPUTS = 128


@dataclass(frozen=True, eq=False)
class Task:
    """A polygon and a network."""

    frame: Frame  # the plane
    known: Known  # points of it at which the inputs are known exactly
    corners: np.ndarray  # (n, 2) of the polygon
    levels: tuple[Level, ...]  # the network, level by level
    number: int  # number of the value of the graph that is followed
    tolerance: float  # a distance in the plane
    memory: int  # about how many bytes the values of one block may take
    keep_values: bool  # whether the outputs at the vertices are kept
    dtype: torch.dtype  # what the network was captured in

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators that divide."""
        return tuple(level.name for level in self.levels if level.step is not None)

    @property
    def further(self) -> bool:
        """Whether more points are known than those that say where the plane is."""
        return len(self.known.t) > (1 if self.frame.anchors is None else len(self.frame.anchors))

    def start(self) -> tuple[Complex, Rows]:
        """The cells that are divided, and the network's inputs at their vertices: known ones as they were given."""
        # The lines through known points cost time; they are drawn only where something ties at one.
        with torch.no_grad():
            if not ties(self.levels, self._rows(self.known.inputs)):
                corners = torch.from_numpy(self.corners)
                return Complex.polygon(self.corners), self._rows(self.frame.points(corners))
        cells, vertex, which = draw_spokes(self.corners, self.known, self.tolerance)
        found = self.frame.points(torch.from_numpy(cells.points))
        place, chosen = torch.from_numpy(vertex), torch.from_numpy(which)
        for item, exact, dim in zip(found, self.known.inputs, self.frame.net.inputs.batch_dims, strict=True):
            item.index_copy_(dim, place, exact.index_select(dim, chosen))
        return cells, self._rows(found)

    def _rows(self, tensors: Sequence[Tensor]) -> Rows:
        """Inputs as the first level takes them."""
        graph = self.frame.net.graph
        numbers = graph.part([self.number]).inputs
        return {n: graph.values[n].to_rows(item) for n, item in zip(numbers, tensors, strict=True)}


def new_task(
    net: SplineNetwork,
    anchors: Any,
    origin: Any = None,
    basis: Any = None,
    points: Any = None,
    extent: Any = None,
    until: str | None = None,
    output: int | None = None,
    tolerance: float = TOLERANCE,
    memory: int = MEMORY,
    keep_values: bool | None = None,
) -> Task:
    """The checked task; arguments as of :func:`maxaffine.partition.plane`."""
    frame, known = _frame(net, anchors, origin, basis, points)
    corners = polygon(extent, frame.anchors)
    if not 0 < tolerance < 1e-3:
        raise BadInput(f"tolerance: expected a number between 0 and 1e-3, got {tolerance}")
    if memory < 2**16:
        raise BadInput(f"memory: expected at least {2**16} bytes, got {memory}")
    number = frame.net.target(until, output)
    if frame.net.graph.values[number].dependence is not Dependence.AFFINE:
        raise BadInput("output: it is piecewise constant (a comparison or an index); name an affine one with until=")
    graph = frame.net.graph.part([number])
    if keep_values is None:
        keep_values = prod(graph.values[number].units) <= KEPT_OUTPUTS
    # Relative to the polygon, but never below the rounding of its coordinates, which may lie far from the origin.
    width = max(float(np.hypot(*np.ptp(corners, axis=0))) * tolerance, ROUNDING * float(np.abs(corners).max()))
    dtype = next(dtype for dtype in net.inputs.dtypes if dtype.is_floating_point)
    return Task(frame, known, corners, levels(graph), number, width, memory, keep_values, dtype)


def _frame(net: SplineNetwork, anchors: Any, origin: Any, basis: Any, points: Any) -> tuple[Frame, Known]:
    """The plane, and the points of it at which the inputs are known exactly."""
    require_network(net)
    given = anchors is not None or origin is not None or basis is not None
    if given and ((anchors is None) == (origin is None) or (origin is None) != (basis is None)):
        raise BadInput("anchors: give either three anchors, or origin and basis")
    if anchors is not None:
        frame = plane_through(net, anchors)
    else:
        frame = plane_along(net, origin, basis) if given else input_plane(net)
    if frame.anchors is None:
        t, inputs = np.zeros((1, 2)), frame.origin
    else:
        t, inputs = frame.anchors.numpy(), stack_inputs(net, anchors, "anchors")
    if points is not None:
        further = stack_inputs(net, points, "points")
        t = np.concatenate([t, inside(frame, further).numpy()])
        inputs = [torch.cat(pair, dim) for *pair, dim in zip(inputs, further, net.inputs.batch_dims, strict=True)]
    return frame, Known.of(t, tuple(inputs), axes=anchors is None)
