"""Decision boundaries and level sets of a partitioned plane: exact, since outputs are affine on every cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from maxaffine.errors import BadInput
from maxaffine.partition.planes.complex import Complex
from maxaffine.partition.planes.divide import divided_by_columns, too_small
from maxaffine.partition.planes.extremes import Boundary, divided_by_extremes
from maxaffine.partition.planes.growth import Growth

if TYPE_CHECKING:
    from maxaffine.partition.planes.partition import PlanePartition

DECISION = "decision"


@dataclass(frozen=True, eq=False)
class Segments:
    """Pieces of a boundary, each within one cell of the partition.

    Attributes:
        points: (S, 2, 2) coordinates of both ends.
        cells: (S,) cell that it passes through.
        classes: (S, 2) class on its left and on its right; for a level set 1 above the level and 0 below.
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
    return _segments(partition, *_divided(partition))


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
    return _segments(partition, cells, values)


def _divided(partition: PlanePartition) -> tuple[Complex, np.ndarray]:
    units = partition.graph.values[partition.number].units
    if len(units) > 1:
        raise BadInput(f"output: a decision needs a vector of outputs, got {units} for each input; choose until=")
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
    done = divided_by_columns(partition.cells, table, unit, None, len(partition.operators), partition.tolerance)
    return _trimmed(done.cells, _grown(table, done.growth))


def _grown(values: np.ndarray, growth: Growth) -> np.ndarray:
    return growth.grown({0: torch.from_numpy(values)})[0].numpy()


def _trimmed(cells: Complex, values: np.ndarray) -> tuple[Complex, np.ndarray]:
    """Without vertices that no cell has."""
    used, corners = np.unique(cells.corners, return_inverse=True)
    number = np.full(len(cells.points), -1)
    number[used] = np.arange(len(used))
    return replace(cells, points=cells.points[used], ends=number[cells.ends], corners=corners), values[used]


def _segments(partition: PlanePartition, cells: Complex, values: np.ndarray) -> Segments:
    edge = np.flatnonzero(cells.operator == len(partition.operators))
    sides = cells.edge_cells[edge]
    means = np.add.reduceat(values[cells.corners], cells.starts[:-1]) / cells.counts[:, None]
    winner = (means[:, 0] > 0).astype(np.int64) if means.shape[1] == 1 else means.argmax(1)
    points = torch.from_numpy(cells.points[cells.ends[edge]])
    return Segments(points, partition.locate(points.mean(1)), torch.from_numpy(winner[sides]))
