"""Every region of a network on a plane, exactly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch

from maxaffine.errors import BadInput
from maxaffine.graph import Dependence
from maxaffine.network import SplineNetwork
from maxaffine.partition.planes.blocks import Block, Builder, Leaf
from maxaffine.partition.planes.complex import Complex
from maxaffine.partition.planes.frame import Frame, directed, polygon, spanned
from maxaffine.partition.planes.glue import glue
from maxaffine.partition.planes.levels import Level, Rows, flattened, levels
from maxaffine.partition.planes.partition import PlanePartition
from maxaffine.progress import progress_bar

TOLERANCE = 1e-12
MEMORY = 64 * 2**20
ROUNDING = 8 * float(np.finfo(np.float64).eps)
KEPT_OUTPUTS = 128
BAR = "{desc}: {percentage:3.0f}% of the area |{bar}| [{elapsed}<{remaining}{postfix}]"
Watch = Callable[[float, int], object]
GLUE = 100  # two blocks may place the same vertex a few roundings apart


def plane(
    net: SplineNetwork,
    anchors: Any = None,
    *,
    origin: Any = None,
    basis: Any = None,
    extent: Any = None,
    until: str | None = None,
    output: int | None = None,
    tolerance: float = TOLERANCE,
    memory: int = MEMORY,
    keep_values: bool | None = None,
    progress: bool | Watch | None = None,
) -> PlanePartition:
    """Divide a convex polygon of a plane in input space into the regions of a network.

    x(t) = origin + t_1 basis_1 + t_2 basis_2; on every cell all units keep their pieces, so f(x(t)) is affine in t.
    The network is followed operator by operator, and all cells are divided by all units of an operator at once: an edge
    is cut where a unit changes sign, and within a cell, on which the unit is affine, its zero set is the chord between
    two such cuts. Continuity makes the value at a vertex the same for all cells around it. All in float64.

    Args:
        net: The network. One captured in another type is computed in float64, with the parameters as they are.
        anchors: Three inputs that span the plane: a batch of three, or a list of three. Coordinates then are distances
            in input space, the first anchor at (0, 0) and the second on the first axis.
        origin: In place of anchors, one input (a batch of one),
        basis: and two directions, shaped as a batch of two inputs; coordinates count these directions.
        extent: What to partition, in coordinates: r for [-r, r]^2, (left, right, bottom, top), or the corners (n, 2) of
            a convex polygon. By default the rectangle around the anchors with a margin, or [-1, 1]^2.
        until: Name of an operator or module to stop behind; the boundaries of what follows it are left out.
        output: Which output, for a network with several.
        tolerance: Points closer than this, relative to the polygon, may become one vertex; units this small beside
            their largest value on the polygon count as zero at a vertex.
        memory: About how many bytes the values of one block of cells may take; other blocks wait, depth first.
        keep_values: Whether to keep the outputs at the vertices; by default when there are at most 128.
        progress: Whether to show a progress bar of the area done; by default when it takes over two seconds. Or a
            function, called before every step with the share of the work done, in [0, 1], and the number of cells so
            far, which only grows; what it raises ends the run and reaches the caller.

    Returns:
        The partition. Ctrl-C returns it with unfinished cells, which say so, and a warning.

    Raises:
        BadInput: For anything that spans no plane or polygon, bad inputs or an unknown name.
        NotPiecewiseAffine: For an operator that jumps (hardshrink, a comparison) or sorts.
        PartitionError: When rounding made the result inconsistent; it is checked always.

    Example:
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> found = ma.partition.plane(net, origin=torch.zeros(1, 2), basis=torch.eye(2))
        >>> found.regions, found.areas.tolist()
        (4, [1.0, 1.0, 1.0, 1.0])

    Source: the partition of Balestriero and Baraniuk, "Mad Max" (arXiv 1805.06576); restriction of networks to planes,
    Sotoudeh and Thakur, "Computing Linear Restrictions of Neural Networks" (NeurIPS 2019); subdivision by the signs at
    vertices, Berzins, "Polyhedral Complex Extraction from ReLU Networks using Edge Subdivision" (ICML 2023).
    """
    frame = _frame(net, anchors, origin, basis)
    corners = polygon(extent, frame.anchors)
    if not 0 < tolerance < 1e-3:
        raise BadInput(f"tolerance: expected a number between 0 and 1e-3, got {tolerance}")
    if memory < 2**16:
        raise BadInput(f"memory: expected at least {2**16} bytes, got {memory}")
    number = _target(frame.net, until, output)
    graph = frame.net.graph.part([number])
    if keep_values is None:
        keep_values = prod(graph.values[number].units) <= KEPT_OUTPUTS
    stretches = levels(graph)
    width = max(float(np.hypot(*np.ptp(corners, axis=0))) * tolerance, ROUNDING * float(np.abs(corners).max()))
    leaves: list[Leaf] = []
    builder = Builder(stretches, width, memory, keep_values, leaves.append)
    rest = _built(builder, corners, _inputs(frame, graph.inputs, corners), leaves, progress)
    chains = np.concatenate(builder.chains) if builder.chains else np.zeros((0, 2, 2))
    cells, values, level = glue([*leaves, *rest], chains, GLUE * width)
    found = PlanePartition(frame, _names(stretches), cells, level, width, number, values, _dtype(net))
    found.check_geometry(corners)
    return found


def _frame(net: SplineNetwork, anchors: Any, origin: Any, basis: Any) -> Frame:
    if not isinstance(net, SplineNetwork):
        raise BadInput(f"net: expected a SplineNetwork, got {type(net).__name__}; capture the module: ma.capture(...)")
    if (anchors is None) == (origin is None) or (origin is None) != (basis is None):
        raise BadInput("anchors: give either three anchors, or origin and basis")
    return directed(net, origin, basis) if anchors is None else spanned(net, anchors)


def _target(net: SplineNetwork, until: str | None, output: int | None) -> int:
    """The number of the value that is followed."""
    number = net.target(until, output)
    if net.graph.values[number].dependence is not Dependence.AFFINE:
        raise BadInput("output: it is piecewise constant (a comparison or an index); name an affine one with until=")
    return number


def _dtype(net: SplineNetwork) -> torch.dtype:
    return next(dtype for dtype in net.inputs.dtypes if dtype.is_floating_point)


def _names(stretches: tuple[Level, ...]) -> tuple[str, ...]:
    return tuple(level.name for level in stretches if level.step is not None)


def _inputs(frame: Frame, numbers: tuple[int, ...], corners: np.ndarray) -> Rows:
    tensors = frame.points(torch.from_numpy(corners))
    return {n: flattened(tensor, frame.net.graph.values[n]) for n, tensor in zip(numbers, tensors, strict=True)}


def _built(
    builder: Builder, corners: np.ndarray, rows: Rows, leaves: list[Leaf], progress: bool | Watch | None
) -> list[Leaf]:
    """Run the builder with a progress bar; returns what an interruption left."""
    whole = Complex.polygon(corners)
    total = float(whole.areas[0])
    bar = progress_bar(False if callable(progress) else progress, "plane", total=100.0, unit="%", bar_format=BAR)
    regions, area = 0, 0.0

    def report(leaf: Leaf) -> None:
        nonlocal regions, area
        leaves.append(leaf)
        regions += len(leaf.cells.counts)
        area += float(leaf.cells.areas.sum())
        bar.set_postfix_str(f"{regions} regions", refresh=False)
        bar.update(100 * float(leaf.cells.areas.sum()) / total)

    def watch(blocks: list[Block]) -> None:
        if callable(progress):
            under_way = sum(float(block.cells.areas.sum()) * block.level for block in blocks) / len(builder.levels)
            cells = regions + sum(len(block.cells.counts) for block in blocks)
            progress(min(1.0, (area + under_way) / total), cells)

    builder.done, builder.watch = report, watch
    with bar, torch.no_grad():
        rest = builder.run(whole, rows)
    if rest:
        warnings.warn("interrupted: the partition returned has unfinished cells", UserWarning, stacklevel=3)
    return rest
