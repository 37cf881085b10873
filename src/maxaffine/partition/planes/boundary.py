"""Decision boundaries and level sets of a partitioned plane: exact, since outputs are affine on every cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from maxaffine.errors import BadInput
from maxaffine.network import require_classes
from maxaffine.partition.planes.complex import Complex
from maxaffine.partition.planes.divide import ROUNDING, Division, divided_by_columns, too_small
from maxaffine.partition.planes.extremes import Boundary, divided_by_extremes
from maxaffine.partition.planes.growth import Growth, OnKnots
from maxaffine.partition.planes.levels import bounded, largest

if TYPE_CHECKING:
    from maxaffine.partition.planes.partition import PlanePartition

DECISION, LEVEL = "decision", "level"


@dataclass(frozen=True, eq=False)
class Segments:
    """Pieces of a boundary, each within one cell of the partition or along an edge between two.

    Attributes:
        points: (S, 2, 2) coordinates of both ends.
        cells: (S,) cell that it passes through; of an edge one of the two.
        classes: (S, 2) class on its left and on its right; for a level set 1 above the level and 0 elsewhere.
    """

    points: Tensor
    cells: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.points)

    @property
    def length(self) -> float:
        """Length of all of them."""
        return float((self.points[:, 1] - self.points[:, 0]).norm(dim=1).sum())


def decision_segments(partition: PlanePartition) -> Segments:
    """The decision boundary, see :meth:`PlanePartition.decision_boundary`."""
    cells, values = _divide(partition)
    classes, _ = winners(cells, values)
    return _segments(partition, cells, classes, np.not_equal(*classes[cells.edge_cells].T))


def divided_by_class(partition: PlanePartition) -> PlanePartition:
    """The partition divided by it, see :meth:`PlanePartition.divided_by_class`."""
    return _refine(partition, DECISION, *_divide(partition))


def divided_by_levels(partition: PlanePartition, levels: np.ndarray, output: int) -> PlanePartition:
    """The partition divided by level sets, see :meth:`PlanePartition.divided_by_levels`."""
    cells, _, values = _cut_at_levels(partition, levels, output)
    return _refine(partition, LEVEL, cells, values)


def level_segments(partition: PlanePartition, levels: np.ndarray, output: int) -> list[Segments]:
    """Level sets, see :meth:`PlanePartition.level_set`; all are cut at once."""
    cells, gaps, _ = _cut_at_levels(partition, levels, output)
    found = []
    for gap in gaps.T:
        reached = gap == 0
        flat = np.logical_and.reduceat(reached[cells.corners], cells.starts[:-1])
        kept = reached[cells.ends].all(1) & ~flat[cells.edge_cells].all(1)
        found.append(_segments(partition, cells, winners(cells, gap[:, None])[0], kept))
    return found


def winners(cells: Complex, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of every cell, and whether it is the same all over.

    Args:
        cells: The cells.
        values: (V, C) outputs at the vertices.

    Returns:
        (F,) the lowest class that wins all over the cell, or the one at its center where none does; and which have one.
    """
    least = too_small(values).max(initial=0.0)
    values = bounded(torch.from_numpy(values)).numpy()
    scores = np.concatenate([-values, values], 1) if values.shape[1] == 1 else values
    wins = scores >= scores.max(1, keepdims=True) - least
    common = np.logical_and.reduceat(wins[cells.corners], cells.starts[:-1])
    means = np.add.reduceat(scores[cells.corners], cells.starts[:-1])
    decided = np.asarray(common.any(1))
    return np.where(decided, common.argmax(1), means.argmax(1)), decided


def _divide(partition: PlanePartition) -> tuple[Complex, np.ndarray]:
    units = partition.graph.values[partition.number].units
    if len(units) > 1:
        raise BadInput(f"output: a decision needs a vector of outputs, got {units} for each input; choose until=")
    require_classes(partition.task, "decision boundary", "level_set(level, output) gives the contours of a value")
    values = partition.values.numpy()
    if values.shape[1] == 1:
        done, table = _cut_at(partition, values)
        return _trim(done.cells, _grow(table, done.growth))
    window = np.arange(values.shape[1])[None]
    boundary = Boundary(len(partition.operators), False, partition.tolerance)
    cells, stages = divided_by_extremes(partition.cells, values, window, too_small(values), boundary)
    return _trim(cells, _grow(values, Growth(len(values), stages)))


def _refine(partition: PlanePartition, name: str, cells: Complex, values: np.ndarray | None) -> PlanePartition:
    """The partition with cells that are parts of its own, cut by one more operator."""
    finished = partition.levels == len(partition.operators)
    level = np.where(finished, len(partition.operators) + 1, partition.levels)
    parent = partition.locate(torch.from_numpy(cells.centers)).numpy()
    operators = (*partition.operators, name)
    return replace(partition, operators=operators, cells=cells, levels=level[parent], kept_values=values)


def _cut_at_levels(
    partition: PlanePartition, levels: np.ndarray, output: int
) -> tuple[Complex, np.ndarray, np.ndarray]:
    """Cells cut at some values of one output, how far it is above each at the vertices, and all outputs there."""
    values = partition.values.numpy()
    if not 0 <= output < values.shape[1]:
        raise BadInput(f"output: numbers run from 0 to {values.shape[1] - 1}, got {output}")
    # The levels of one output never meet within a cell, so that all of them can cut it at once.
    # A value that is large beside its distance to a level is known to its own rounding only, not to the distance's.
    rounding = ROUNDING * float(largest(partition.values[:, [output]]))
    done, table = _cut_at(partition, values[:, [output]] - levels, rounding)
    carried = [_grow(table, done.growth), _grow(values, replace(done.growth, knots=None))]
    cells, rows = _trim(done.cells, np.concatenate(carried, 1))
    return cells, rows[:, : len(levels)], rows[:, len(levels) :]


def _cut_at(partition: PlanePartition, values: np.ndarray, least: float = 0.0) -> tuple[Division, np.ndarray]:
    """Cells cut where one of the columns (V, M) is zero, and the columns with what counts as zero set to it."""
    small = np.maximum(too_small(values), least)
    table = np.where(np.abs(values) <= small, 0, values)
    unit = np.arange(values.shape[1])
    knots = OnKnots(0, unit, np.zeros(len(unit)))
    operator = len(partition.operators)
    return divided_by_columns(partition.cells, table.copy(), small, unit, knots, operator, partition.tolerance), table


def _grow(values: np.ndarray, growth: Growth) -> np.ndarray:
    return growth.grown({0: torch.from_numpy(values)})[0].numpy()


def _trim(cells: Complex, values: np.ndarray) -> tuple[Complex, np.ndarray]:
    """Without vertices that no cell has."""
    used, corners = np.unique(cells.corners, return_inverse=True)
    number = np.full(len(cells.points), -1)
    number[used] = np.arange(len(used))
    return replace(cells, points=cells.points[used], ends=number[cells.ends], corners=corners), values[used]


def _segments(partition: PlanePartition, cells: Complex, classes: np.ndarray, kept: np.ndarray) -> Segments:
    """The edges between cells where the mask is true."""
    edge = np.flatnonzero(kept & (cells.edge_cells >= 0).all(1))
    points = torch.from_numpy(cells.points[cells.ends[edge]])
    return Segments(points, partition.locate(points.mean(1)), torch.from_numpy(classes[cells.edge_cells[edge]]))
