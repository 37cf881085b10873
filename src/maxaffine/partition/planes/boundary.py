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
from maxaffine.partition.planes.divide import divided_by_columns, too_small
from maxaffine.partition.planes.extremes import Boundary, divided_by_extremes
from maxaffine.partition.planes.growth import Growth, Knots

if TYPE_CHECKING:
    from maxaffine.partition.planes.partition import PlanePartition

DECISION = "decision"


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
    cells, values = _divided(partition)
    classes, _ = winners(cells, values)
    return _segments(partition, cells, classes, np.not_equal(*classes[cells.edge_cells].T))


def divided_by_class(partition: PlanePartition) -> PlanePartition:
    """The partition divided by it, see :meth:`PlanePartition.divided_by_class`."""
    cells, values = _divided(partition)
    finished = partition.levels == len(partition.operators)
    level = np.where(finished, len(partition.operators) + 1, partition.levels)
    parent = partition.locate(torch.from_numpy(cells.centres)).numpy()
    operators = (*partition.operators, DECISION)
    return replace(partition, operators=operators, cells=cells, levels=level[parent], kept_values=values)


def level_segments(partition: PlanePartition, level: float, output: int) -> Segments:
    """A level set, see :meth:`PlanePartition.level_set`."""
    values = partition.values.numpy()
    if not 0 <= output < values.shape[1]:
        raise BadInput(f"output: numbers run from 0 to {values.shape[1] - 1}, got {output}")
    cells, values = _cut_at(partition, values[:, [output]] - level)
    reached = (values == 0)[:, 0]
    flat = np.logical_and.reduceat(reached[cells.corners], cells.starts[:-1])
    kept = reached[cells.ends].all(1) & ~flat[cells.edge_cells].all(1)
    return _segments(partition, cells, winners(cells, values)[0], kept)


def winners(cells: Complex, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of every cell, and whether it is the same all over.

    Args:
        cells: The cells.
        values: (V, C) outputs at the vertices.

    Returns:
        (F,) the lowest class that wins all over the cell, or the one at its centre where none does; and which have one.
    """
    scores = np.concatenate([-values, values], 1) if values.shape[1] == 1 else values
    wins = scores >= scores.max(1, keepdims=True) - too_small(values).max(initial=0.0)
    common = np.logical_and.reduceat(wins[cells.corners], cells.starts[:-1])
    means = np.add.reduceat(scores[cells.corners], cells.starts[:-1])
    decided = np.asarray(common.any(1))
    return np.where(decided, common.argmax(1), means.argmax(1)), decided


def _divided(partition: PlanePartition) -> tuple[Complex, np.ndarray]:
    units = partition.graph.values[partition.number].units
    if len(units) > 1:
        raise BadInput(f"output: a decision needs a vector of outputs, got {units} for each input; choose until=")
    require_classes(partition.task, "decision boundary", "level_set(level, output) gives the contours of a value")
    values = partition.values.numpy()
    if values.shape[1] == 1:
        return _cut_at(partition, values)
    operator = len(partition.operators)
    least = too_small(values)
    window = np.arange(values.shape[1])[None]
    cells, stages = divided_by_extremes(
        partition.cells, values, window, least, Boundary(operator, False, partition.tolerance)
    )
    return _trimmed(cells, _grown(values, Growth(len(values), stages)))


def _cut_at(partition: PlanePartition, values: np.ndarray) -> tuple[Complex, np.ndarray]:
    table = np.where(np.abs(values) <= too_small(values), 0, values)
    unit = np.zeros(values.shape[1], dtype=np.int64)
    knots = Knots(0, unit, np.zeros(len(unit)))
    done = divided_by_columns(partition.cells, table, unit, knots, len(partition.operators), partition.tolerance)
    return _trimmed(done.cells, _grown(table, done.growth))


def _grown(values: np.ndarray, growth: Growth) -> np.ndarray:
    return growth.grown({0: torch.from_numpy(values)})[0].numpy()


def _trimmed(cells: Complex, values: np.ndarray) -> tuple[Complex, np.ndarray]:
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
