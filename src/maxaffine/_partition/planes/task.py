"""What is to be partitioned: a polygon of a plane, and the part of a network that divides it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Dependence
from maxaffine._partition.planes.blocks import Block, Builder, Leaf, Path
from maxaffine._partition.planes.complex import SPOKE, Complex
from maxaffine._partition.planes.frame import Frame, directed, input_plane, inside, polygon, spanned, stacked
from maxaffine._partition.planes.levels import Level, Rows, levels
from maxaffine._partition.planes.spokes import Known, spoked, ties
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

TOLERANCE = 1e-10
MEMORY = 64 * 2**20
ROUNDING = 8 * float(np.finfo(np.float64).eps)
KEPT_OUTPUTS = 128
BAR = "{desc}: {percentage:3.0f}% of the area |{bar}| [{elapsed}<{remaining}{postfix}]"
Watch = Callable[[float, int], object]


@dataclass(frozen=True, eq=False)
class Task:
    """A polygon and a network.

    Attributes:
        frame: The plane.
        known: Points of it at which the inputs are known exactly.
        corners: (n, 2) of the polygon.
        stretches: The network, level by level.
        number: Number of the value of the graph that is followed.
        tolerance: A distance in the plane.
        memory: About how many bytes the values of one block may take.
        keep_values: Whether the outputs at the vertices are kept.
        dtype: What the network was captured in.
    """

    frame: Frame
    known: Known
    corners: np.ndarray
    stretches: tuple[Level, ...]
    number: int
    tolerance: float
    memory: int
    keep_values: bool
    dtype: torch.dtype

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators that divide."""
        return tuple(level.name for level in self.stretches if level.step is not None)

    @property
    def further(self) -> bool:
        """Whether more points are known than those that say where the plane is."""
        return len(self.known.t) > (1 if self.frame.anchors is None else len(self.frame.anchors))

    def run(
        self, done: Callable[[Leaf], None], progress: bool | Watch | None, after: Path = (), area: float = 0.0
    ) -> list[Leaf]:
        """Divide the polygon, with a progress bar.

        Args:
            done: Called with every leaf.
            progress: Whether to show a progress bar, or a function that follows.
            after: The path of the last leaf of an earlier run.
            area: What that run had finished.

        Returns:
            What an interruption left.
        """
        whole, inputs = self._start()
        total = float(whole.areas.sum())
        shown = False if callable(progress) else progress
        bar = progress_bar(
            shown, "plane", total=100.0, initial=min(100 * area / total, 100.0), unit="%", bar_format=BAR
        )
        regions, most = 0, 0

        def report(leaf: Leaf) -> None:
            nonlocal regions, area
            done(leaf)
            regions += len(leaf.cells.counts)
            area += float(leaf.cells.areas.sum())
            bar.set_postfix_str(f"{regions} regions", refresh=False)
            bar.update(min(100 * area / total, 100.0) - bar.n)  # rounding may leave more than all of it

        def watch(blocks: list[Block]) -> None:
            nonlocal most
            if callable(progress):
                under_way = sum(float(block.cells.areas.sum()) * block.level for block in blocks) / len(self.stretches)
                # Two cells on either side of a spoke will be one.
                cells = sum(len(block.cells.counts) - int((block.cells.operator == SPOKE).sum()) for block in blocks)
                most = max(most, 1, regions + cells)
                progress(min(1.0, (area + under_way) / total), most)

        count = len(self.corners)
        builder = Builder(self.stretches, self.tolerance, self.memory, self.keep_values, count, report, watch, after)
        with bar, torch.no_grad():
            return builder.run(whole, self._rows(inputs))

    def _start(self) -> tuple[Complex, list[Tensor]]:
        """The cells that are divided, and the inputs at their vertices: known ones as they were given."""
        with torch.no_grad():
            if not ties(self.stretches, self._rows(self.known.inputs)):
                return Complex.polygon(self.corners), list(self.frame.points(torch.from_numpy(self.corners)))
        cells, vertex, which = spoked(self.corners, self.known, self.tolerance)
        found = list(self.frame.points(torch.from_numpy(cells.points)))
        place, chosen = torch.from_numpy(vertex), torch.from_numpy(which)
        for item, exact, dim in zip(found, self.known.inputs, self.frame.net.inputs.batch_dims, strict=True):
            item.index_copy_(dim, place, exact.index_select(dim, chosen))
        return cells, found

    def _rows(self, tensors: Sequence[Tensor]) -> Rows:
        """Inputs as the first level takes them."""
        graph = self.frame.net.graph
        numbers = graph.part([self.number]).inputs
        return {n: graph.values[n].to_rows(item) for n, item in zip(numbers, tensors, strict=True)}


def task(
    net: SplineNetwork,
    anchors: Any,
    origin: Any,
    basis: Any,
    points: Any,
    extent: Any,
    until: str | None,
    output: int | None,
    tolerance: float,
    memory: int,
    keep_values: bool | None,
) -> Task:
    """The checked task; arguments as of :func:`maxaffine.partition.plane`.

    Args:
        net: The network.
        anchors: See there.
        origin: See there.
        basis: See there.
        points: See there.
        extent: See there.
        until: See there.
        output: See there.
        tolerance: See there.
        memory: See there.
        keep_values: See there.

    Returns:
        The task.

    Raises:
        BadInput: See there.
        NotPiecewiseAffine: See there.
    """
    frame, known = _frame(net, anchors, origin, basis, points)
    corners = polygon(extent, frame.anchors)
    if not 0 < tolerance < 1e-3:
        raise BadInput(f"tolerance: expected a number between 0 and 1e-3, got {tolerance}")
    if memory < 2**16:
        raise BadInput(f"memory: expected at least {2**16} bytes, got {memory}")
    number = _target(frame.net, until, output)
    graph = frame.net.graph.part([number])
    if keep_values is None:
        keep_values = prod(graph.values[number].units) <= KEPT_OUTPUTS
    width = max(float(np.hypot(*np.ptp(corners, axis=0))) * tolerance, ROUNDING * float(np.abs(corners).max()))
    dtype = next(dtype for dtype in net.inputs.dtypes if dtype.is_floating_point)
    return Task(frame, known, corners, levels(graph), number, width, memory, keep_values, dtype)


def _frame(net: SplineNetwork, anchors: Any, origin: Any, basis: Any, points: Any) -> tuple[Frame, Known]:
    if not isinstance(net, SplineNetwork):
        raise BadInput(f"net: expected a SplineNetwork, got {type(net).__name__}; capture the module: ma.capture(...)")
    given = anchors is not None or origin is not None or basis is not None
    if given and ((anchors is None) == (origin is None) or (origin is None) != (basis is None)):
        raise BadInput("anchors: give either three anchors, or origin and basis")
    if anchors is not None:
        frame = spanned(net, anchors)
    else:
        frame = directed(net, origin, basis) if given else input_plane(net)
    if frame.anchors is None:
        t, inputs = np.zeros((1, 2)), frame.origin
    else:
        t, inputs = frame.anchors.numpy(), stacked(net, anchors, "anchors")
    if points is not None:
        further = stacked(net, points, "points")
        t = np.concatenate([t, inside(frame, further).numpy()])
        inputs = [torch.cat(pair, dim) for *pair, dim in zip(inputs, further, net.inputs.batch_dims, strict=True)]
    return frame, Known.of(t, tuple(inputs), axes=anchors is None)


def _target(net: SplineNetwork, until: str | None, output: int | None) -> int:
    """The number of the value that is followed."""
    number = net.target(until, output)
    if net.graph.values[number].dependence is not Dependence.AFFINE:
        raise BadInput("output: it is piecewise constant (a comparison or an index); name an affine one with until=")
    return number
