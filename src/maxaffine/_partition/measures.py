"""Measures of partitions: local complexity, and how many regions lie between samples.

Local complexity counts the units that have their boundary in a small neighborhood of a sample. A unit whose code
differs between two points has its boundary between them. So codes at the corners of a neighborhood are evidence that
costs a forward pass, and lines through it are evidence that misses less; both are lower bounds. On a partitioned plane
nothing has to be sampled: the cells that meet a neighborhood are found by geometry, and a unit changes within it where
their codes are not all the same.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from maxaffine._capture import SplineNetwork, capture
from maxaffine._drawing import axes_for
from maxaffine._graph import as_rows
from maxaffine._network import Task
from maxaffine._partition.lines.partition import line
from maxaffine._partition.planes.complex.cells import OUTSIDE, cross
from maxaffine._partition.planes.partition import PlanePartition
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VERTEX_BYTES = 32 * 2**20
METHODS = ("vertices", "lines")
SHAPES = ("disc", "square")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = "osv^Dx"
DIRECTIONS = 25


@dataclass(frozen=True, eq=False)
class LocalComplexity:
    """Units whose boundary was found near each sample; from :func:`local_complexity` or :func:`plane_complexity`."""

    per_operator: dict[str, Tensor]  # (samples,) units of every operator, by name
    units: dict[str, int]  # how many every operator has, by name
    radius: float  # of the neighborhoods
    method: str  # how they were searched
    regions: Tensor | None = None  # (samples,) cells that meet each neighborhood, on planes; None elsewhere

    @property
    def total(self) -> Tensor:
        """(samples,) over all operators."""
        return torch.stack(list(self.per_operator.values())).sum(0)

    @property
    def mean(self) -> float:
        """The total's mean over the samples."""
        return float(self.total.double().mean())

    def plot(self, ax: Axes | None = None, *, size: float = 6.0) -> Axes:
        """Draw the mean number of units of every operator, and the range over samples; ``size``: inches of width."""
        ax = axes_for(ax, 6.0, 3.6, sheet=False, size=size)
        counts = torch.stack(list(self.per_operator.values())).double().cpu()
        mean = counts.mean(1)
        ranges = torch.stack([mean - counts.amin(1), counts.amax(1) - mean])
        ax.bar(list(self.per_operator), mean.numpy(), yerr=ranges.numpy(), color="#0072B2", ecolor="gray", capsize=3)
        ax.set_ylabel(f"units changing within {self.radius:g}")
        ax.tick_params(axis="x", rotation=45, labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {float(n.double().mean()):.2f}" for name, n in self.per_operator.items())
        return (
            f"LocalComplexity: {self.mean:.2f} of {sum(self.units.values())} units within {self.radius:g}"
            f" of {len(self.total)} samples, by {self.method} ({parts})"
        )


def local_complexity(
    net: SplineNetwork,
    x: Any,
    radius: float,
    *,
    directions: int | None = None,
    method: str = "vertices",
    seed: int = 0,
    progress: bool | None = None,
) -> LocalComplexity:
    """Count the units whose boundary crosses a small neighborhood of each sample.

    The neighborhood is the cross-polytope with the vertices x +- radius v_p, for orthonormal random directions v_p,
    the same for all samples. ``"vertices"`` counts the units whose codes are not the same at all of its vertices,
    ``"lines"`` the units that change anywhere on one of its diagonals, which are followed exactly. Both count only
    units that do change within the neighborhood. For the first operator with pieces, where each unit has two of them
    after affine operators alone, both are exact; for deeper ones they are lower bounds, lines the larger one. For
    exact numbers on a plane see :func:`plane_complexity`.

    Args:
        net: The network, with one floating-point input.
        x: Samples, as at capture.
        radius: Distance from the sample to the vertices.
        directions: Number of orthonormal directions P, at most the size of one sample; by default 25, or all of them
            where a sample holds fewer numbers.
        method: ``"vertices"`` (2 P forward passes per sample) or ``"lines"`` (P exact lines per sample).
        seed: For the directions.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The counts.

    Raises:
        BadInput: For several inputs, a radius that is not positive, too many directions, or an unknown method.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> x = torch.tensor([[0.01, 1.0], [1.0, 1.0]])
        >>> ma.partition.local_complexity(net, x, 0.1, directions=2).total
        tensor([1, 0])

    Source: Humayun, Balestriero and Baraniuk, "Deep Networks Always Grok and Here is Why" (ICML 2024), section 2.
    """
    net.require_regions("counts of kinks")
    tensors = net.inputs.tensors(x)
    if len(tensors) != 1 or net.inputs.keyword or not tensors[0].is_floating_point():
        raise BadInput(f"net: it takes {net.inputs.names}; local complexity is about one floating-point input")
    if not radius > 0:
        raise BadInput(f"radius: expected a positive number, got {radius}")
    if method not in METHODS:
        raise BadInput(f"method: expected one of {METHODS}, got {method!r}")
    operators = [record for record in net.operators if record.pieces > 1]
    if not operators:
        raise BadInput("net: no operator has several pieces, so there is no boundary")
    front = tensors[0].movedim(net.inputs.batch_dims[0], 0)
    steps = radius * _orthonormal(front, directions, seed)
    count = _by_vertices if method == "vertices" else _by_lines
    samples = progress_bar(progress, "local complexity", iterable=front, unit="sample")
    rows = [count(net, sample, steps) for sample in samples]
    found = {record.name: torch.tensor([row[record.name] for row in rows]) for record in operators}
    units = {record.name: prod(record.units) for record in operators}
    return LocalComplexity(found, units, radius, method)


def _orthonormal(front: Tensor, directions: int | None, seed: int) -> Tensor:
    """(directions, *sample) random directions at right angles."""
    size = front[0].numel()
    directions = min(DIRECTIONS, size) if directions is None else directions
    if not 1 <= directions <= size:
        raise BadInput(f"directions: expected 1 to {size}, the size of one sample, got {directions}")
    # A matrix of normal numbers has no preferred direction, and neither has the orthonormal basis of its columns.
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(size, directions, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(random).Q.T.reshape(directions, *front.shape[1:]).to(front.device)


def _by_vertices(net: SplineNetwork, sample: Tensor, steps: Tensor) -> dict[str, int]:
    """Units of every operator whose codes are not the same at all vertices."""
    first: dict[str, Tensor] = {}
    changed: dict[str, Tensor] = {}
    for part in steps.split(max(1, VERTEX_BYTES // (16 * sample.numel()))):
        vertices = torch.cat([sample + part, sample - part])
        codes = net.codes(vertices.to(sample.dtype).movedim(0, net.inputs.batch_dims[0]).contiguous())
        for name, packed in codes.items():
            rows = as_rows(packed.unpack())
            # Codes are all the same where each is the same as the first.
            differs = (rows != first.setdefault(name, rows[:1])).any(0)
            changed[name] = changed[name] | differs if name in changed else differs
    return {name: int(units.sum()) for name, units in changed.items()}


def _by_lines(net: SplineNetwork, sample: Tensor, steps: Tensor) -> dict[str, int]:
    """Units of every operator that change anywhere on a diagonal."""
    found: dict[str, set[int]] = {record.name: set() for record in net.operators if record.pieces > 1}
    dim = net.inputs.batch_dims[0]
    for step in steps:
        ends = [(sample + sign * step).double().unsqueeze(0).movedim(0, dim) for sign in (-1, 1)]
        crossings = line(net, *ends, progress=False).crossings
        for operator, unit in zip(crossings.operator.tolist(), crossings.unit.tolist(), strict=True):
            found[crossings.operators[operator]].add(unit)
    return {name: len(units) for name, units in found.items()}


def plane_complexity(found: PlanePartition, t: Any, radius: float, *, shape: str = "disc") -> LocalComplexity:
    """Count the units whose boundary crosses a neighborhood within a partitioned plane, exactly.

    A unit counts when its code is not the same in all cells that have interior points in common with
    {s : |s - t| < radius}, where |.| is the Euclidean norm (disc) or the largest coordinate (square). Cells are convex
    polygons and codes are constant on them, so nothing is sampled. Units whose boundaries coincide all count.

    Args:
        found: The partition; it must contain the neighborhoods.
        t: (N, 2) centers in the plane's coordinates; for inputs see ``found.frame.coordinates``.
        radius: Neighborhood radius, in the plane's coordinates.
        shape: ``"disc"`` or ``"square"`` (of side 2 radius).

    Returns:
        The counts, by operator; its ``regions`` are the cells that meet each neighborhood.

    Raises:
        BadInput: For a neighborhood that leaves the polygon, a radius that is not positive, or an unknown shape.

    Example:
        >>> import torch
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> found = ma.partition.plane(net, origin=torch.zeros(1, 2), basis=torch.eye(2))
        >>> ma.partition.plane_complexity(found, torch.tensor([[0.1, 0.1], [0.1, 0.5], [0.5, 0.5]]), 0.2).total
        tensor([2, 1, 0])

    Source: the measure of Humayun, Balestriero and Baraniuk, "Deep Networks Always Grok and Here is Why" (ICML 2024).
    """
    centers = found.checked(t)
    if not radius > 0:
        raise BadInput(f"radius: expected a positive number, got {radius}")
    if shape not in SHAPES:
        raise BadInput(f"shape: expected one of {SHAPES}, got {shape!r}")
    if not found.complete:
        raise BadInput("found: the partition was interrupted; finish it first")
    records = [record for step in found.graph.steps for record in step.records if record.name in found.operators]
    units = {record.name: prod(record.units) for record in records}
    counts: dict[str, list[int]] = {name: [] for name in units}
    cells = []
    for center in centers.numpy():
        _check_inside(found, center, radius, shape)
        meeting = meeting_cells(found, center, radius, shape)
        cells.append(len(meeting))
        codes = found.codes(meeting)
        for name in units:
            rows = as_rows(codes[name].unpack())
            counts[name].append(int((rows != rows[:1]).any(0).sum()))
    tensors = {name: torch.tensor(numbers) for name, numbers in counts.items()}
    return LocalComplexity(tensors, units, radius, f"plane, {shape}", torch.tensor(cells))


def meeting_cells(found: PlanePartition, center: np.ndarray, radius: float, shape: str) -> np.ndarray:
    """Numbers of the cells with interior points in common with a neighborhood of a point (2,)."""
    # Most cells are far away, which their bounding boxes show.
    cells = found.cells
    start = cells.points[cells.corners] - center
    first = cells.starts[:-1]
    low, high = np.minimum.reduceat(start, first), np.maximum.reduceat(start, first)
    near = np.flatnonzero(((low < radius) & (high > -radius)).all(1))
    part, vertices, _ = cells.cells(near)
    a = cells.points[vertices][part.corners] - center
    b = a[part.following]
    # A convex cell meets the neighborhood where it holds its center, or one of its sides comes near enough.
    holds = np.minimum.reduceat(cross(b - a, -a), part.starts[:-1]) > 0
    depth = _segment_distance(a, b, shape)
    meets = holds | (np.minimum.reduceat(depth, part.starts[:-1]) < radius - found.tolerance)
    return near[meets]


def _segment_distance(a: np.ndarray, b: np.ndarray, shape: str) -> np.ndarray:
    """How near segments come to the origin, in the norm of the neighborhood."""
    along = b - a
    if shape == "disc":
        at = -(a * along).sum(1) / np.maximum((along**2).sum(1), np.finfo(float).tiny)
        return np.hypot(*(a + np.clip(at, 0, 1)[:, None] * along).T)
    # max(|x|, |y|) is convex along a segment: its minimum is at an end or where two of x, -x, y, -y are equal.
    places = [np.zeros(len(a)), np.ones(len(a))]
    with np.errstate(divide="ignore", invalid="ignore"):
        for weight in np.array([[1, 1], [1, -1], [1, 0], [0, 1]]):
            at = -(a @ weight) / (along @ weight)
            places.append(np.clip(np.nan_to_num(at, nan=0.0, posinf=1.0, neginf=0.0), 0, 1))
    return np.min([np.abs(a + at[:, None] * along).max(1) for at in places], axis=0)


def _check_inside(found: PlanePartition, center: np.ndarray, radius: float, shape: str) -> None:
    """Refuse a neighborhood that leaves the polygon."""
    # It reaches as far towards a side as the radius says in the direction at right angles to it, in its own norm.
    cells = found.cells
    rim = np.flatnonzero(cells.operator[cells.sides] == OUTSIDE)
    a = cells.points[cells.corners[rim]] - center
    b = cells.points[cells.corners[cells.following[rim]]] - center
    along = b - a
    length = np.maximum(np.hypot(*along.T), np.finfo(float).tiny)
    inside = cross(along, -a) / length  # how far the center lies inside each side of the polygon
    reach = radius if shape == "disc" else radius * np.abs(along).sum(1) / length
    if (inside < reach - found.tolerance).any():
        place = tuple(round(value, 6) for value in center.tolist())
        raise BadInput(f"t: the neighborhood of {place} leaves the polygon; choose a larger extent or a smaller radius")


class ComplexityHistory:
    """Record the local complexity of a network while it trains: call it after every epoch or step.

    It captures a copy of the model in evaluation mode, so the model, its mode and its random state are left alone.

    Args:
        model: The model that is trained.
        samples: Inputs by name, e.g. ``{"training": ..., "test": ...}``, each a batch.
        radius: See :func:`local_complexity`.
        every: Record at the first call, and at every so many after it.
        options: ``directions``, ``method`` and ``seed`` of :func:`local_complexity`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> history = ComplexityHistory(model, {"data": torch.randn(5, 2)}, radius=0.1, directions=2)
        >>> history(0), history(1)
        (None, None)
        >>> history.moments, len(history.means("data"))
        ([0.0, 1.0], 2)

    Source: Humayun, Balestriero and Baraniuk, "Deep Networks Always Grok and Here is Why" (ICML 2024).
    """

    def __init__(
        self, model: nn.Module, samples: Mapping[str, Tensor], radius: float, every: int = 1, **options: Any
    ) -> None:
        if not samples:
            raise BadInput("samples: it is empty; give at least one batch by name")
        if every < 1:
            raise BadInput(f"every: expected at least 1, got {every}")
        self.model = model
        self.samples = dict(samples)
        self.radius = radius
        self.every = every
        self.options = options
        self.moments: list[float] = []
        self.records: dict[str, list[LocalComplexity]] = {name: [] for name in samples}
        self._calls = 0

    def __call__(self, moment: Any = None) -> None:
        """Record the model as it is now, at a step or epoch (a number); anything else is the number of calls so far."""
        self._calls += 1
        if (self._calls - 1) % self.every:
            return
        still = copy.deepcopy(self.model).eval()
        net = capture(still, next(iter(self.samples.values()))[:2])
        found = {
            name: local_complexity(net, x, self.radius, progress=False, **self.options)
            for name, x in self.samples.items()
        }
        number = isinstance(moment, int | float) and not isinstance(moment, bool)
        self.moments.append(float(moment) if number else float(self._calls - 1))
        for name, item in found.items():
            self.records[name].append(item)

    def means(self, name: str, operator: str | None = None) -> list[float]:
        """The mean over the samples of a name at every moment, of one operator or of all together."""
        if operator is None:
            return [item.mean for item in self.records[name]]
        return [float(item.per_operator[operator].double().mean()) for item in self.records[name]]

    def plot(
        self,
        ax: Axes | None = None,
        *,
        xlabel: str = "epoch",
        log: bool = False,
        linewidth: float = 1.5,
        size: float = 6.0,
    ) -> Axes:
        """Draw a curve per batch of samples over the moments, log scaled or not; ``size``: inches of width."""
        if not self.moments:
            raise BadInput("nothing was recorded; call the history after every epoch, e.g. train(after_epoch=history)")
        ax = axes_for(ax, 6.0, 3.6, sheet=False, size=size)
        for place, name in enumerate(self.records):
            color, mark = COLORS[place % len(COLORS)], MARKS[place % len(MARKS)]
            style = {"color": color, "marker": mark, "markersize": 3, "linewidth": linewidth}
            ax.plot(self.moments, self.means(name), label=name, **style)
        ax.set_xlabel(xlabel)
        ax.set_ylabel(f"units changing within {self.radius:g} of a sample")
        if log:
            ax.set_xscale("symlog")
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
        return ax


@dataclass(frozen=True, eq=False)
class CrossedRegions:
    """What lies between pairs of samples; made by :func:`crossed_regions`."""

    breakpoints: Tensor  # (pairs,) boundaries crossed on the way: one fewer than regions
    decisions: Tensor  # (pairs,) changes of the class; none where they were not counted
    lengths: Tensor  # (pairs,) distance of each pair

    @property
    def density(self) -> Tensor:
        """(pairs,) boundaries per unit of length."""
        return self.breakpoints / self.lengths

    def __len__(self) -> int:
        return len(self.breakpoints)

    def plot(self, ax: Axes | None = None, *, size: float = 6.0) -> Axes:
        """Draw how many boundaries lie between two samples over their distance; ``size``: inches of width."""
        ax = axes_for(ax, 6.0, 3.6, sheet=False, size=size)
        ax.scatter(self.lengths.cpu(), self.breakpoints.cpu(), s=12, color="#0072B2")
        ax.set_xlabel("distance of the pair")
        ax.set_ylabel("boundaries between")
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __repr__(self) -> str:
        mean = float(self.breakpoints.double().mean())
        density = float(self.density.mean())
        return f"CrossedRegions: {mean:.1f} boundaries between {len(self)} pairs, {density:.4g} per unit of length"


def crossed_regions(
    net: SplineNetwork, x0: Tensor, x1: Tensor, *, decisions: bool | None = None, progress: bool | None = None
) -> CrossedRegions:
    """Count the regions that the segments between pairs of samples cross, exactly.

    For the density near data against away from it, give segments around samples and around other inputs, e.g.
    ``crossed_regions(net, x - step, x + step)``.

    Args:
        net: The network, with one floating-point input.
        x0: (pairs, ...) where the segments start, a batch as at capture.
        x1: (pairs, ...) where they end.
        decisions: Whether changes of the class are counted; by default where the network answers classes.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The counts.

    Raises:
        BadInput: For batches of different sizes, equal samples, or several inputs.

    Example:
        >>> import torch
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> ma.partition.crossed_regions(net, -torch.ones(1, 2), torch.tensor([[1.0, 0.5]])).breakpoints
        tensor([2])
    """
    starts, ends = net.inputs.tensors(x0), net.inputs.tensors(x1)
    if len(starts) != 1 or net.inputs.keyword or not starts[0].is_floating_point():
        raise BadInput(f"net: it takes {net.inputs.names}; segments are about one floating-point input")
    dim = net.inputs.batch_dims[0]
    if starts[0].shape != ends[0].shape:
        raise BadInput(f"x1: shape {tuple(ends[0].shape)}, but x0 has {tuple(starts[0].shape)}")
    front = [item[0].double().movedim(dim, 0) for item in (starts, ends)]
    lengths = as_rows(front[1] - front[0]).norm(dim=1)
    if not (lengths > 0).all():
        raise BadInput(f"x1: sample {int((lengths <= 0).int().argmax())} equals that of x0; a segment has two ends")
    pairs = zip(*(item.unsqueeze(1).movedim(1, dim + 1) for item in front), strict=True)
    bar = progress_bar(progress, "lines", iterable=pairs, total=len(lengths), unit="line")
    lines = [line(net, start, end, progress=False) for start, end in bar]
    counted = net.task() is Task.CLASSES if decisions is None else decisions
    changes = torch.tensor([len(found.decisions()) for found in lines] if counted else [])
    return CrossedRegions(torch.tensor([found.pieces - 1 for found in lines]), changes, lengths)
