"""A partition of a plane compared with the network itself, and with the user's untouched module."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine.errors import BadInput, ExactnessError, PartitionError
from maxaffine.network import difference, size, terms, without_infinities
from maxaffine.partition.lines.line import MEMORY, TOLERANCE
from maxaffine.partition.lines.segment import Segment
from maxaffine.partition.lines.walk import Walk
from maxaffine.partition.planes.complex import OUTSIDE, Complex, cross, groups
from maxaffine.partition.planes.levels import levels

if TYPE_CHECKING:
    from maxaffine.partition.planes.partition import PlanePartition

THIN = 1e-9  # of the polygon's size: codes closer than this to a boundary are those of rounding
AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-4}
DIGEST = np.dtype([("high", np.uint64), ("low", np.uint64)])


@dataclass(frozen=True)
class PlaneReport:
    """How a partition compares with the network.

    Attributes:
        regions: Cells whose codes at an interior point were computed: all, or those that hold the points.
        thin: Cells among them so thin that rounding may decide their codes.
        repeated: Cells that share all their codes with another one: with none, as many regions as codes. What was
            divided further, by class or by levels, counts once.
        samples: Random points of the polygon.
        edgy: Points so close to an edge that rounding decides their codes, or whose codes differ from their cell's in
            units alone that are zero up to rounding all over it; they are not compared.
        missed: Other points whose codes are those of no cell.
        misplaced: Other points whose codes are not those of the cell that holds them.
        error: Largest difference between the cells' affine maps and the module at the points, relative to the largest
            output or, where terms cancelled, to those that the worst one is made of; None without a module.
        exact: Whether nothing was repeated, missed or misplaced, and the module agrees.
    """

    regions: int
    thin: int
    repeated: int
    samples: int
    edgy: int
    missed: int
    misplaced: int
    error: float | None
    exact: bool


def verify(
    partition: PlanePartition, model: Callable | None, samples: int, every_cell: bool, seed: int, raises: bool
) -> PlaneReport:
    """See :meth:`PlanePartition.verify`."""
    t = random_points(partition.cells, samples, seed)
    return compared(partition, model, t, *partition.locate_deep(t), every_cell, raises)


def compared(
    partition: PlanePartition, model: Callable | None, t: Tensor, cell: Tensor, depth: Tensor, every: bool, raises: bool
) -> PlaneReport:
    """Compare a partition with the network at points.

    Args:
        partition: The partition.
        model: The user's module, or None.
        t: (N, 2) points.
        cell: (N,) the cell that holds each.
        depth: (N,) how far inside.
        every: Whether all cells are looked into.
        raises: Whether a disagreement raises.

    Returns:
        How they compare.

    Raises:
        PartitionError: When codes disagree and ``raises`` is true.
        ExactnessError: When the module's values do.
    """
    chosen, row = np.arange(partition.regions), cell.numpy()
    if not every:
        chosen, row = np.unique(row, return_inverse=True)
    own, seen = fingerprints(partition, partition.centers[torch.from_numpy(chosen)]), fingerprints(partition, t)
    size = float(np.hypot(*np.ptp(partition.cells.points, axis=0)))
    room = thickness(partition.cells)
    thick: np.ndarray = room[chosen] > THIN * size
    clear: np.ndarray = depth.numpy() > THIN * size
    # A code's region is convex, so no two cells share one, however thin they are, unless they were divided further.
    parent = _parents(partition)[chosen]
    counts = np.unique(own[np.unique(parent, return_index=True)[1]], return_counts=True)[1]
    missed = clear & ~np.isin(seen, own)
    misplaced = clear & (own[row] != seen)
    for place in np.flatnonzero(missed | misplaced).tolist():
        if _crosses(partition, t[place], partition.centers[cell[place]], room[cell[place]] / 2):
            break  # the others no longer matter
        clear[place] = missed[place] = misplaced[place] = False
    error, agrees = (
        (None, True)
        if model is None
        else _module_error(partition, model, t[torch.from_numpy(clear)], cell[torch.from_numpy(clear)])
    )
    wrong = missed | misplaced
    exact = agrees and not wrong.any() and not (counts > 1).any()
    found = (int((~thick).sum()), int((counts - 1).sum()), len(t), int((~clear).sum()), int(missed.sum()))
    report = PlaneReport(len(chosen), *found, int(misplaced.sum()), error, exact)
    if raises and not wrong.any() and not agrees:
        raise ExactnessError(f"the cells' maps and the module disagree: {report}; was the module trained or moved?")
    if raises and not exact:
        place = tuple(t[wrong.argmax()].tolist()) if wrong.any() else ()
        raise PartitionError(f"the partition and the network disagree: {report}", place)
    return report


def _parents(partition: PlanePartition) -> np.ndarray:
    """(F,) a number that cells have in common which were one until they were divided by class or by levels."""
    cells, operators = partition.cells, len(levels(partition.graph)) - 1
    within = (cells.operator >= operators) & (cells.edge_cells >= 0).all(1)
    return groups(cells.edge_cells[within], partition.regions)


def _crosses(partition: PlanePartition, t: Tensor, center: Tensor, beyond: float) -> bool:
    """Whether a unit changes between a point and a bit beyond a center, but for those that are zero up to rounding."""
    end = center + beyond * torch.nn.functional.normalize(center - t, dim=0)
    start, end = (partition.frame.points(point[None]) for point in (t, end))
    walk = Walk(partition.graph, Segment(partition.frame.net, start, end), TOLERANCE, MEMORY)
    with torch.no_grad():
        return any(len(block.at) for block in walk.blocks())


def random_points(cells: Complex, count: int, seed: int) -> Tensor:
    """Points spread evenly over what the rim encloses.

    Args:
        cells: The cells.
        count: How many points.
        seed: For the generator.

    Returns:
        (count, 2).

    Raises:
        BadInput: For no points.
    """
    if count < 1:
        raise BadInput(f"samples: expected at least 1, got {count}")
    generator = np.random.default_rng(seed)
    rim = np.flatnonzero(cells.operator[cells.sides] == OUTSIDE)
    a, b = cells.points[cells.corners[rim]], cells.points[cells.corners[cells.following[rim]]]
    middle = a.mean(0)
    weight = np.maximum(cross(a - middle, b - middle), 0)
    chosen = generator.choice(len(rim), count, p=weight / weight.sum())
    u, v = generator.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u)[:, None], np.where(u + v > 1, 1 - v, v)[:, None]
    return torch.from_numpy(middle + u * (a[chosen] - middle) + v * (b[chosen] - middle))


def fingerprints(partition: PlanePartition, t: Tensor) -> np.ndarray:
    """A digest of all codes at each point: equal where all codes are.

    Args:
        partition: Its network and plane.
        t: (N, 2).

    Returns:
        (N,) pairs of integers.
    """
    found = [np.zeros(0, dtype=DIGEST)]
    for tensors in partition.batches(t):
        rows = [
            np.ascontiguousarray(codes.unsqueeze(1).flatten(1).numpy()) for _, codes in partition.graph.codes(tensors)
        ]
        count = len(rows[0]) if rows else tensors[0].shape[partition.frame.net.inputs.batch_dims[0]]
        digests = [
            hashlib.blake2b(b"".join(row[place].tobytes() for row in rows), digest_size=16).digest()
            for place in range(count)
        ]
        found.append(np.frombuffer(b"".join(digests), dtype=DIGEST))
    return np.concatenate(found)


def thickness(cells: Complex) -> np.ndarray:
    """(F,) how far the center of each cell lies from its nearest edge."""
    start = cells.points[cells.corners]
    along = start[cells.following] - start
    away = cross(along, cells.centers[cells.cell_of] - start)
    length = np.maximum(np.hypot(*along.T), np.finfo(float).tiny)
    return np.minimum.reduceat(away / length, cells.starts[:-1])


def _module_error(partition: PlanePartition, model: Callable, t: Tensor, cell: Tensor) -> tuple[float, bool]:
    """How far the cells' affine maps are from the module's values at points, and whether rounding explains it."""
    graph = partition.frame.net.graph
    if partition.number not in graph.outputs:
        raise BadInput("model: its values after until= cannot be read off the module; leave model out")
    place = graph.outputs.index(partition.number)
    dtype = partition.dtype
    worst, largest, at = 0.0, 0.0, (0, 0)
    if not prod(graph.values[partition.number].units):
        return 0.0, True
    slopes, offsets = partition.plane_map(torch.unique(cell))
    row = torch.unique(cell, return_inverse=True)[1]
    expected = (slopes[row] * t[:, None]).sum(2) + offsets[row]
    first = 0
    for tensors in partition.batches(t):
        narrow = [item.to(dtype) if item.is_floating_point() else item for item in tensors]
        given = partition.frame.packed(narrow)
        with torch.no_grad():
            result = model(**given) if isinstance(given, dict) else model(*narrow)
        value = graph.values[partition.number].to_rows(tree_leaves(result)[place]).double()
        gap = difference(value, expected[first : first + len(value)]).abs()
        if not bool(gap.isfinite().all()):
            return float("inf"), False
        if float(gap.max()) > worst:
            worst, at = float(gap.max()), (first + int(gap.argmax()) // gap.shape[1], int(gap.argmax()) % gap.shape[1])
        largest = max(largest, size(without_infinities(value)))
        first += len(value)
    bound = AGREEMENT.get(dtype, 1e-2)
    if worst > bound * largest:
        # The outputs may have cancelled: rounding is that of the terms that the worst one is made of.
        largest = max(largest, _terms(partition, t[at[0]], at[1]))
    error = worst / max(largest, 1e-300)
    return error, error <= bound


def _terms(partition: PlanePartition, t: Tensor, unit: int) -> float:
    """The size of what one unit of the followed value is made of at a point (2,)."""
    x = partition.frame.points(t[None])
    u = torch.zeros(1, prod(partition.frame.net.graph.values[partition.number].units), dtype=torch.float64)
    u[0, unit] = 1
    weights = u.reshape(1, *partition.frame.net.graph.values[partition.number].units)
    return float(terms(partition.frame.net, partition.number, x, x, weights, offset=True).max())
