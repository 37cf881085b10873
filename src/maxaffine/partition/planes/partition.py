"""A partition of a plane: its geometry, and what the network is on every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine.codes import Codes
from maxaffine.errors import BadInput
from maxaffine.graph import Graph
from maxaffine.maps import AffineMap
from maxaffine.network import Task, require_classes
from maxaffine.partition.planes.boundary import (
    Segments,
    decision_segments,
    divided_by_class,
    divided_by_levels,
    level_segments,
    winners,
)
from maxaffine.partition.planes.export import as_arrays, as_geojson, as_networkx
from maxaffine.partition.planes.geometry import PlaneGeometry
from maxaffine.partition.planes.locate import Locator
from maxaffine.partition.planes.verify import PlaneReport, verify

Chosen = Sequence[int] | Tensor | np.ndarray | slice | None
INPUT_BYTES = 64 * 2**20
# Slopes that are held together where only their norms are kept.
SLOPES_AT_ONCE = 2**24


@dataclass(frozen=True, eq=False, repr=False)
class PlanePartition(PlaneGeometry):
    """The regions of a network on a polygon of a plane; made by :func:`maxaffine.partition.plane`.

    Attributes:
        number: Number of the value of the graph that is followed.
        kept_values: (V, C) outputs at the vertices; None where they were not kept.
        dtype: What the network was captured in.
    """

    number: int
    kept_values: np.ndarray | None
    dtype: torch.dtype

    @cached_property
    def values(self) -> Tensor:
        """(V, C) the network's outputs at the vertices, flattened."""
        if self.kept_values is not None:
            return torch.from_numpy(self.kept_values)
        return self.at(self.vertices)

    @cached_property
    def task(self) -> Task:
        """What the followed outputs answer, see :meth:`maxaffine.network.SplineNetwork.task`."""
        return self.frame.net.task_at(self.number)

    @property
    def classes(self) -> Tensor:
        """(F,) the class at the center of each cell: the largest output, or for a single one whether it is above 0.

        The lowest class wins a tie all over a cell.

        Raises:
            BadInput: When the outputs are values, not classes.
        """
        return torch.from_numpy(self._winners[0])

    @property
    def decided(self) -> Tensor:
        """(F,) whether the class is the same all over the cell: no decision boundary passes through it.

        Raises:
            BadInput: When the outputs are values, not classes.
        """
        return torch.from_numpy(self._winners[1])

    @cached_property
    def _winners(self) -> tuple[np.ndarray, np.ndarray]:
        require_classes(self.task, "classes", "at(centers) gives the values, level_set(level, output) their contours")
        return winners(self.cells, self.values.numpy())

    @cached_property
    def graph(self) -> Graph:
        """The part of the network up to the value that is followed."""
        return self.frame.net.graph.part([self.number])

    def points(self, t: Tensor) -> Any:
        """The inputs at points of the plane.

        Args:
            t: (N, 2) coordinates.

        Returns:
            A batch of N inputs, as the network in float64 takes them.
        """
        return self.frame.packed(self.frame.points(self.checked(t)))

    def at(self, t: Tensor) -> Tensor:
        """The network's own outputs at points of the plane, by running it.

        Args:
            t: (N, 2) coordinates.

        Returns:
            (N, C), flattened.
        """
        value = self.graph.values[self.number]
        parts = [value.to_rows(self.graph.run(tensors)[0]) for tensors in self.batches(self.checked(t))]
        return torch.cat(parts) if parts else torch.zeros(0, prod(value.units), dtype=torch.float64)

    def locate(self, t: Tensor) -> Tensor:
        """The cell of each point.

        Args:
            t: (N, 2) coordinates; for inputs see ``frame.coordinates``.

        Returns:
            (N,) cells, -1 outside the polygon. A point on an edge lies in one of the cells beside it.
        """
        return self.locate_deep(t)[0]

    def locate_deep(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The cell of each point, and how far the point lies from the cell's nearest edge.

        Args:
            t: (N, 2) coordinates.

        Returns:
            (N,) cells, -1 outside the polygon, and (N,) distances in the plane's coordinates.
        """
        cell, depth = self._locator.locate(self.checked(t).numpy())
        return torch.from_numpy(cell), torch.from_numpy(depth)

    @cached_property
    def _locator(self) -> Locator:
        return Locator(self.cells, self.tolerance)

    def codes(self, cells: Chosen = None) -> Codes:
        """The codes of all operators in cells, computed at their centers.

        Args:
            cells: Numbers of cells, or a slice; all by default.

        Returns:
            A row per cell.

        Raises:
            BadInput: For a cell that is not there.
        """
        batches = []
        for tensors in self.batches(self._centers_of(cells)):
            found = {record.name: (codes, record.pieces) for record, codes in self.graph.codes(tensors)}
            batches.append(Codes.from_tensors(found, batch=tensors[0].shape[self.frame.net.inputs.batch_dims[0]]))
        return Codes.concat(batches)

    def affine_map(self, cells: Chosen = None, **options: Any) -> AffineMap:
        """The affine maps f(x) = A x + b in input space.

        Args:
            cells: Numbers of cells, or a slice; all by default.
            options: ``outputs`` and ``chunk_bytes``, see :class:`maxaffine.AffineMap`.

        Returns:
            The map of each cell, lazy.
        """
        net = self.frame.net
        names = net.inputs.names if net.inputs.keyword else ()
        return AffineMap(self.graph, self.frame.points(self._centers_of(cells)), names=names, **options)

    def plane_map(self, cells: Chosen = None) -> tuple[Tensor, Tensor]:
        """The affine maps f(x(t)) = slopes t + offsets in the plane's coordinates.

        Args:
            cells: Numbers of cells, or a slice; all by default.

        Returns:
            slopes (n, C, 2) and offsets (n, C), C the flattened outputs.
        """
        t = self._centers_of(cells)
        parts = []
        for tensors in self.batches(t):
            count = tensors[0].shape[self.frame.net.inputs.batch_dims[0]]
            # One block, whose codes the value and both directions share.
            amap = AffineMap(self.graph, tensors, chunk_bytes=8 * INPUT_BYTES)
            pushed = [amap.mv(self._direction(axis, count)).reshape(count, -1) for axis in (0, 1)]
            parts.append((torch.stack(pushed, -1), amap.value.reshape(count, -1)))
        slopes, value = (torch.cat(items) for items in zip(*parts, strict=True))
        return slopes, value - (slopes * t[:, None]).sum(2)

    @cached_property
    def slope_norms(self) -> Tensor:
        """(F,) how steep each cell is: the norm of its slopes within the plane, over all outputs."""
        size = max(1, SLOPES_AT_ONCE // prod(self.graph.values[self.number].units))
        parts = torch.arange(self.regions).split(size)
        return torch.cat([self.plane_map(part)[0].unsqueeze(1).flatten(1).norm(dim=1) for part in parts])

    def _direction(self, axis: int, count: int) -> list[Tensor]:
        dims = self.frame.net.inputs.batch_dims
        pairs = zip(self.frame.basis, dims, strict=True)
        return [item.narrow(dim, axis, 1).repeat_interleave(count, dim) for item, dim in pairs]

    def decision_boundary(self) -> Segments:
        """The decision boundary: where the class changes, the largest output or the sign of a single one.

        Returns:
            Its segments, each within one cell or along an edge between two.

        Raises:
            BadInput: When the followed value is not a vector of outputs, or these are values, not classes.
        """
        return decision_segments(self)

    def level_set(self, level: float = 0.0, output: int = 0) -> Segments:
        """Where one output has a given value.

        Args:
            level: The value.
            output: Flat number of the output.

        Returns:
            The segments, each within one cell or along an edge between two. A cell on which the output equals the level
            all over has none inside.

        Raises:
            BadInput: When there is no such output.
        """
        return level_segments(self, np.array([level]), output)[0]

    def level_sets(self, levels: Sequence[float], output: int = 0) -> list[Segments]:
        """Several level sets of one output, as :meth:`level_set` gives each; all are found at once.

        Args:
            levels: The values.
            output: Flat number of the output.

        Returns:
            The segments of each.

        Raises:
            BadInput: When there is no such output.
        """
        return level_segments(self, np.array(levels, dtype=np.float64), output)

    def divided_by_levels(self, levels: Sequence[float], output: int = 0) -> PlanePartition:
        """The partition divided further by level sets of one output, which become the operator ``level``.

        Args:
            levels: The values, increasing.
            output: Flat number of the output.

        Returns:
            A partition in which the output stays between two neighboring levels all over every cell.

        Raises:
            BadInput: When there is no such output.
        """
        return divided_by_levels(self, np.array(levels, dtype=np.float64), output)

    def divided_by_class(self) -> PlanePartition:
        """The partition divided further by the decision boundary, which becomes the operator ``decision``.

        Returns:
            A partition in which every cell is decided.

        Raises:
            BadInput: When the followed value is not a vector of outputs, or these are values, not classes.
        """
        return divided_by_class(self)

    def verify(
        self, model: Any = None, *, samples: int = 4096, every_cell: bool = True, seed: int = 0, raises: bool = True
    ) -> PlaneReport:
        """Compare codes at random points and inside all cells, and the cells' maps with the untouched module.

        Args:
            model: The user's module, re-run at the points; left out when None.
            samples: Random points of the polygon.
            every_cell: Whether all cells are looked into, or only those that hold one of the points.
            seed: For the points.
            raises: Whether a disagreement raises.

        Returns:
            What was compared, and how far apart it was.

        Raises:
            PartitionError: When the partition and the network's codes disagree and ``raises`` is true.
            ExactnessError: When the cells' maps and the module disagree.
        """
        return verify(self, model, samples, every_cell, seed, raises)

    def to_numpy(self) -> dict[str, np.ndarray]:
        """All arrays by name, for ``numpy.savez``."""
        return as_arrays(self)

    def to_geojson(self) -> dict[str, Any]:
        """A FeatureCollection in the plane's coordinates: cells with their class (or values), area and depth."""
        return as_geojson(self)

    def to_networkx(self) -> Any:
        """The adjacency as a networkx graph: a node per cell, an edge per shared edge. Needs networkx.

        Returns:
            ``networkx.Graph``.
        """
        return as_networkx(self)

    def _centers_of(self, cells: Chosen) -> Tensor:
        if cells is None or isinstance(cells, slice):
            return self.centers[cells or slice(None)]
        chosen = torch.as_tensor(cells)
        if chosen.dtype == torch.bool or chosen.is_floating_point() or chosen.dim() != 1 or not len(chosen):
            raise BadInput("cells: expected a non-empty list of cell numbers, or a slice")
        if int(chosen.min()) < 0 or int(chosen.max()) >= self.regions:
            raise BadInput(f"cells: numbers run from 0 to {self.regions - 1}")
        return self.centers[chosen]

    def batches(self, t: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The inputs at points of the plane, a few at a time, so that the network's values there fit in memory.

        Args:
            t: (N, 2) coordinates.

        Returns:
            Batches of inputs, in order.
        """
        step = max(1, INPUT_BYTES // (8 * self.graph.largest_value()))
        return (self.frame.points(part) for part in t.split(step) if len(part))

    def checked(self, t: Tensor) -> Tensor:
        """Coordinates as float64, once they are finite and (N, 2)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        if t.dim() != 2 or t.shape[1] != 2 or not t.isfinite().all():
            raise BadInput(f"t: expected finite coordinates (N, 2), got shape {tuple(t.shape)}")
        return t
