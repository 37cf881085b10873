"""What is to be partitioned: a polygon of a plane in the space of a network's inputs, and the part that divides it.

Everything after this file is geometry in two coordinates; here they get their meaning. Through three inputs the natural
coordinates are distances in input space, so the basis is orthonormal; along given directions they count the directions.
An input of a network may be several tensors, of which integers stay as they are: the plane moves the others.

Every argument is checked here, before any work: what comes out is plain data that two calls read, one that keeps the
cells in memory and one that writes them to a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import copysign, hypot, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._graph import Dependence, as_rows
from maxaffine._network import size
from maxaffine._partition.inputs import as_double, require_network
from maxaffine._partition.planes.complex.cells import Complex, cross
from maxaffine._partition.planes.levels import Level, Rows, levels
from maxaffine._partition.planes.spokes import Known, draw_spokes, ties
from maxaffine.errors import BadInput, ShapeMismatch

TOLERANCE = 1e-10
MEMORY = 64 * 2**20
ROUNDING = 8 * float(np.finfo(np.float64).eps)
KEPT_OUTPUTS = 128
MARGIN = 0.25
FLAT = 1e-9
BESIDE = 1e-12  # of the largest entry: rounding of an input that lies in the plane


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
        graph = self.levels[0].graph
        return {n: graph.values[n].to_rows(item) for n, item in zip(graph.inputs, tensors, strict=True)}


def new_task(
    net: SplineNetwork,
    anchors: Any,
    origin: Any = None,
    basis: Any = None,
    points: Any = None,
    extent: Any = None,
    until: str | None = None,
    output: int | str | None = None,
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
    if (key := ("levels", number)) not in frame.net.kept:
        frame.net.kept[key] = levels(frame.net.graph.part([number]))
    if keep_values is None:
        keep_values = prod(frame.net.graph.values[number].units) <= KEPT_OUTPUTS
    # Relative to the polygon, but never below the rounding of its coordinates, which may lie far from the origin.
    width = max(hypot(*(corners.max(0) - corners.min(0))) * tolerance, ROUNDING * float(np.abs(corners).max()))
    dtype = next(dtype for dtype in net.inputs.dtypes if dtype.is_floating_point)
    return Task(frame, known, corners, frame.net.kept[key], number, width, memory, keep_values, dtype)


def _frame(net: SplineNetwork, anchors: Any, origin: Any, basis: Any, points: Any) -> tuple[Frame, Known]:
    """The plane, and the points of it at which the inputs are known exactly."""
    require_network(net)
    given = anchors is not None or origin is not None or basis is not None
    if given and ((anchors is None) == (origin is None) or (origin is None) != (basis is None)):
        raise BadInput("anchors: give either three anchors, or origin and basis")
    if anchors is not None:
        inputs = stack_inputs(net, anchors, "anchors")
        frame = plane_through(net, inputs)
    else:
        frame = frame_along(net, origin, basis) if given else input_frame(net)
        inputs = frame.origin
    t = np.zeros((1, 2)) if frame.anchors is None else frame.anchors.numpy()
    if points is not None:
        further = stack_inputs(net, points, "points")
        places = frame.coordinates(frame.net.inputs.nest(further))
        for item, here in zip(further, frame.points(places), strict=True):
            gap = size(item - here)
            if gap > BESIDE * max(size(item), size(here), 1.0):
                raise BadInput(f"points: one lies {gap:.2g} off the plane; give inputs that lie in it, in float64")
        t = np.concatenate([t, places.numpy()])
        inputs = [torch.cat(pair, dim) for *pair, dim in zip(inputs, further, net.inputs.batch_dims, strict=True)]
    return frame, Known(t, tuple(inputs), axes=anchors is None)


@dataclass(frozen=True, eq=False)
class Frame:
    """The plane x(t) = origin + t_1 basis_1 + t_2 basis_2, or the space along three directions."""

    net: SplineNetwork  # the network, in float64
    origin: tuple[Tensor, ...]  # per input of the network a batch of one
    basis: tuple[Tensor, ...]  # per input a batch of two (or three); zeros for one that is not floating point
    anchors: Tensor | None = None  # (3, 2) of the inputs that span the plane; None where it was given by directions

    def points(self, t: Tensor) -> tuple[Tensor, ...]:
        """The inputs x(t): a batch of len(t) for each input of the network."""
        found = []
        for start, axes, dim in zip(self.origin, self.basis, self.net.inputs.batch_dims, strict=True):
            front, moved = start.movedim(dim, 0), axes.movedim(dim, 0)
            rows = front.expand(len(t), *front.shape[1:])
            if start.is_floating_point():
                rows = rows + _sums(t, moved)
            found.append(rows.movedim(0, dim).contiguous())
        return tuple(found)

    def coordinates(self, x: Any) -> Tensor:
        """(N, 2) coordinates of the points of the plane nearest to a batch of inputs, given as at capture."""
        tensors = as_double(self.net, x, "x")
        axes = self._flat(self.basis)
        gaps = self._flat(tensors) - self._flat(self.origin)
        return torch.linalg.lstsq(axes.T, gaps.T).solution.T

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """(N, all floating-point numbers of one sample)."""
        pairs = zip(tensors, self.net.inputs.batch_dims, strict=True)
        return torch.cat([as_rows(item.movedim(dim, 0)) for item, dim in pairs if item.is_floating_point()], 1)


def _sums(weights: Tensor, items: Tensor) -> Tensor:
    """Items (K, *units) added up with weights (N, K): (N, *units)."""
    return (weights.to(items) @ as_rows(items)).reshape(len(weights), *items.shape[1:])


def plane_through(net: SplineNetwork, tensors: Sequence[Tensor]) -> Frame:
    """The plane through three inputs; coordinates are distances in input space, from the first towards the second."""
    dims = net.inputs.batch_dims
    if tensors[0].shape[dims[0]] != 3:
        raise BadInput(f"anchors: a plane goes through three inputs, got {tensors[0].shape[dims[0]]}")
    origin = tuple(item.narrow(dim, 0, 1) for item, dim in zip(tensors, dims, strict=True))
    gaps = tuple(item.narrow(dim, 1, 2) - first for item, first, dim in zip(tensors, origin, dims, strict=True))
    if any(gap.any() for gap in gaps if not gap.is_floating_point()):
        raise BadInput("anchors: an input that is not floating point cannot move; give it the same value in all three")
    plane = Frame(net.double(), origin, gaps)
    # The gaps from the first anchor to the others are Q R, with Q orthonormal. Its signs are chosen so that R has a
    # positive diagonal: the second anchor then lies on the first axis, to the right.
    (a, b), (_, d) = torch.linalg.qr(plane._flat(gaps).T, mode="r").R.tolist()
    if not abs(a) > 0 or not abs(d) > FLAT * max(abs(a), abs(b), abs(d)):
        raise BadInput("anchors: they lie on a line, which spans no plane; choose three in general position")
    a, b, d = abs(a), copysign(1, a) * b, abs(d)
    turn = torch.tensor([[1 / a, 0], [-b / d / a, 1 / d]], dtype=torch.float64)  # from the gaps to the basis
    basis = tuple(
        _sums(turn, gap.movedim(dim, 0)).movedim(0, dim) if gap.is_floating_point() else gap
        for gap, dim in zip(gaps, dims, strict=True)
    )
    return replace(plane, basis=basis, anchors=torch.tensor([[0, 0], [a, 0], [b, d]], dtype=torch.float64))


def frame_along(net: SplineNetwork, origin: Any, basis: Any, dimensions: int = 2) -> Frame:
    """The plane through one input along two directions, which coordinates count; or the space along three."""
    start, axes = (stack_inputs(net, x, name) for x, name in ((origin, "origin"), (basis, "basis")))
    dims = net.inputs.batch_dims
    for tensors, name, count in ((start, "origin", 1), (axes, "basis", dimensions)):
        if tensors[0].shape[dims[0]] != count:
            raise BadInput(f"{name}: expected a batch of {count}, got {tensors[0].shape[dims[0]]}")
    axes = tuple(item if item.is_floating_point() else torch.zeros_like(item) for item in axes)
    frame = Frame(net.double(), start, axes)
    lengths = torch.linalg.svdvals(frame._flat(axes))
    if not lengths[-1] > FLAT * lengths[0]:
        what = "two directions are parallel (or zero) and span no plane"
        what = what if dimensions == 2 else "three directions lie in a plane (or one is zero) and span no space"
        raise BadInput(f"basis: the {what}; choose others")
    return frame


def input_frame(net: SplineNetwork, dimensions: int = 2) -> Frame:
    """The plane, or space, of all inputs of a network that takes two numbers, or three: t is the input."""
    sizes = [prod(units) for units in net.inputs.units]
    if sum(sizes) != dimensions or not all(dtype.is_floating_point for dtype in net.inputs.dtypes):
        shapes = f"the network takes inputs of shape {', '.join(map(str, net.inputs.units))}, in which there are many"
        if dimensions == 2:
            raise BadInput(f"anchors: {shapes} planes; give three anchors, or origin and basis")
        raise BadInput(f"origin: {shapes} spaces of {dimensions} dimensions; give origin and basis")
    dims, axes = net.inputs.batch_dims, torch.eye(dimensions, dtype=torch.float64, device=net.inputs.device)
    triples = zip(axes.split(sizes, 1), net.inputs.units, dims, strict=True)
    basis = tuple(axis.reshape(dimensions, *units).movedim(0, dim) for axis, units, dim in triples)
    origin = tuple(torch.zeros_like(item.narrow(dim, 0, 1)) for item, dim in zip(basis, dims, strict=True))
    return Frame(net.double(), origin, basis)


def stack_inputs(net: SplineNetwork, given: Any, name: str) -> tuple[Tensor, ...]:
    """Inputs in float64 from what may be a list or tuple of inputs, with or without the dimension of the batch."""
    items = list(given) if isinstance(given, list | tuple) else [given]
    if len(net.inputs.names) > 1 or not items or not all(isinstance(item, Tensor) for item in items):
        return as_double(net, given, name)
    dim, rank = net.inputs.batch_dims[0], len(net.inputs.units[0])
    items = [item.unsqueeze(dim) if item.dim() == rank else item for item in items]
    if len({item.shape for item in items}) > 1:
        raise ShapeMismatch(f"{name}: inputs of different shapes {[tuple(item.shape) for item in items]}")
    return as_double(net, torch.cat(items, dim), name)


def polygon(extent: Any, anchors: Tensor | None) -> np.ndarray:
    """The corners (n, 2) of the polygon that is partitioned, counter-clockwise; ``extent`` as of :func:`plane`."""
    if extent is None and anchors is not None:
        low, high = anchors.amin(0).numpy(), anchors.amax(0).numpy()
        margin = MARGIN * float((high - low).max())
        extent = np.array([low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin])
    try:
        given = np.asarray(1.0 if extent is None else extent, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"extent: expected numbers, got {extent!r}") from error
    if not np.isfinite(given).all():
        raise BadInput("extent: it holds NaN or infinity")
    if given.ndim == 0:
        given = np.array([-given, given, -given, given])
    if given.shape == (4,):
        left, right, bottom, top = given
        with np.errstate(over="ignore", under="ignore"):
            area = (right - left) * (top - bottom)
        if not (left < right and bottom < top and np.finfo(float).tiny <= area < np.inf):
            raise BadInput(
                "extent: (left, right, bottom, top) must span an area, neither 0 nor infinite in float64, got"
                f" {tuple(given.tolist())}"
            )
        return np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    return _convex(given)


def _convex(corners: np.ndarray) -> np.ndarray:
    """The corners of a convex polygon, counter-clockwise."""
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise BadInput("extent: expected a number, (left, right, bottom, top), or (n, 2) corners of a polygon")
    sides = np.roll(corners, -1, 0) - corners
    turns = cross(sides, np.roll(sides, -1, 0))
    length = np.hypot(*sides.T)
    sines = turns / np.maximum(length * np.roll(length, -1), np.finfo(float).tiny)
    # All turns go one way, and add up to one turn: a star winds around twice.
    angles = np.arctan2(turns, (sides * np.roll(sides, -1, 0)).sum(1))
    once = np.isclose(abs(angles.sum()), 2 * np.pi)
    if not ((sines > FLAT).all() or (sines < -FLAT).all()) or not once:
        raise BadInput("extent: the corners must be those of a convex polygon, in order around it")
    return corners if sines[0] > 0 else corners[::-1].copy()
