"""The geometry of a partition of a plane: vertices, edges, cells."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maxaffine._partition.planes.checks import check_geometry
from maxaffine._partition.planes.complex import Complex
from maxaffine._partition.planes.frame import Frame
from maxaffine.errors import BadInput


@dataclass(frozen=True, eq=False, repr=False)
class PlaneGeometry:
    """Vertices, edges and cells of a partition of a plane, and the operators whose boundaries they are.

    Attributes:
        frame: The plane x(t) = origin + t basis, and the network in float64.
        operators: Names of the piecewise-affine operators, in running order.
        cells: Vertices, edges and cells in flat arrays.
        levels: (F,) how many operators have divided each cell: all, unless the run was interrupted.
        tolerance: Points of the plane closer than this count as one.
    """

    frame: Frame
    operators: tuple[str, ...]
    cells: Complex
    levels: np.ndarray
    tolerance: float

    @property
    def regions(self) -> int:
        """Number of cells F."""
        return len(self.cells.starts) - 1

    @property
    def complete(self) -> bool:
        """Whether all cells are divided by all operators; not after Ctrl-C."""
        return bool((self.levels >= len(self.operators)).all())

    @property
    def vertices(self) -> Tensor:
        """(V, 2) coordinates of the vertices."""
        return torch.from_numpy(self.cells.points)

    @property
    def edges(self) -> Tensor:
        """(E, 2) the vertices that each edge joins."""
        return torch.from_numpy(self.cells.ends)

    @property
    def edge_operators(self) -> Tensor:
        """(E,) place in ``operators`` of the operator whose boundary each edge lies on; -1 on the polygon's rim."""
        return torch.from_numpy(self.cells.operator)

    @property
    def edge_units(self) -> Tensor:
        """(E,) flat number of a unit of that operator whose boundary it is; -1 on the rim."""
        return torch.from_numpy(self.cells.unit)

    @property
    def edge_cells(self) -> Tensor:
        """(E, 2) the cells on the left and on the right of each edge; -1 beyond the rim."""
        return torch.from_numpy(self.cells.edge_cells)

    @property
    def areas(self) -> Tensor:
        """(F,) area of each cell, in the plane's coordinates."""
        return torch.from_numpy(self.cells.areas)

    @property
    def centers(self) -> Tensor:
        """(F, 2) a point inside each cell: the mean of its corners."""
        return torch.from_numpy(self.cells.centers)

    @cached_property
    def depths(self) -> Tensor:
        """(F,) place in ``operators`` of the last operator that cut each cell; -1 where none did."""
        deepest = np.maximum.reduceat(self.cells.operator[self.cells.sides], self.cells.starts[:-1])
        return torch.from_numpy(deepest)

    @cached_property
    def adjacency(self) -> Tensor:
        """(A, 2) pairs of cells that share an edge, each once."""
        pairs = self.cells.edge_cells
        return torch.from_numpy(np.unique(np.sort(pairs[(pairs >= 0).all(1)], axis=1), axis=0))

    def corners(self, cell: int) -> Tensor:
        """The corners of one cell.

        Args:
            cell: Its number.

        Returns:
            (n, 2) counter-clockwise; three of them may lie on a line, where a neighbor has a corner.

        Raises:
            BadInput: When there is no such cell.
        """
        if not 0 <= cell < self.regions:
            raise BadInput(f"cell: numbers run from 0 to {self.regions - 1}, got {cell}")
        start, end = self.cells.starts[cell : cell + 2]
        return torch.from_numpy(self.cells.points[self.cells.corners[start:end]])

    def check_geometry(self, corners: np.ndarray | None = None) -> None:
        """Check Euler's formula, the total area, the shape of every cell and both sides of every edge.

        Args:
            corners: (n, 2) of the whole polygon; by default what its rim encloses.

        Raises:
            PartitionError: With the place, when something does not fit.
        """
        check_geometry(self.cells, self.tolerance, corners)

    def _summary(self) -> list[tuple[str, str]]:
        per = np.bincount(self.cells.operator[self.cells.operator >= 0], minlength=len(self.operators))
        rows = [
            ("regions", f"{self.regions}{'' if self.complete else ' (interrupted: some are not divided further)'}"),
            ("vertices, edges", f"{len(self.cells.points)}, {len(self.cells.ends)}"),
            ("area", f"{float(self.areas.sum()):.6g}"),
        ]
        return rows + [(f"edges of {name}", str(count)) for name, count in zip(self.operators, per, strict=True)]

    def __repr__(self) -> str:
        return "\n".join(["PlanePartition", *(f"  {name}: {value}" for name, value in self._summary())])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in self._summary())
        return f"<table><caption>PlanePartition</caption>{rows}</table>"
