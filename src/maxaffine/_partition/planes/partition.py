"""A partition of a plane: its geometry, and what the network is on every cell."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine._codes import Codes
from maxaffine._graph import Graph, as_rows
from maxaffine._maps import AffineMap
from maxaffine._network import Task, difference, require_classes, size, terms, without_infinities
from maxaffine._partition.lines.line import MEMORY, TOLERANCE
from maxaffine._partition.lines.segment import Segment
from maxaffine._partition.lines.walk import Walk
from maxaffine._partition.planes.boundary import DECISION, LEVEL, Segments, grow, trim, winners
from maxaffine._partition.planes.complex import Complex, groups
from maxaffine._partition.planes.divide import ROUNDING, Division, divided_by_columns, too_small
from maxaffine._partition.planes.extremes import Boundary, divided_by_extremes
from maxaffine._partition.planes.geometry import PlaneGeometry
from maxaffine._partition.planes.growth import Growth, OnKnots
from maxaffine._partition.planes.levels import largest, levels
from maxaffine._partition.planes.locate import Locator
from maxaffine._partition.planes.verify import AGREEMENT, DIGEST, THIN, PlaneReport, random_points, thickness
from maxaffine.errors import BadInput, ExactnessError, MaxAffineError, PartitionError

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
        """What the followed outputs answer, see :meth:`maxaffine.SplineNetwork.task`."""
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
        return torch.cat([as_rows(self.plane_map(part)[0]).norm(dim=1) for part in parts])

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
        cells, values = self._divide()
        classes, _ = winners(cells, values)
        return self._segments(cells, classes, np.not_equal(*classes[cells.edge_cells].T))

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
        return self.level_sets([level], output)[0]

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
        cells, gaps, _ = self._cut_at_levels(np.array(levels, dtype=np.float64), output)
        found = []
        for gap in gaps.T:
            reached = gap == 0
            flat = np.logical_and.reduceat(reached[cells.corners], cells.starts[:-1])
            kept = reached[cells.ends].all(1) & ~flat[cells.edge_cells].all(1)
            found.append(self._segments(cells, winners(cells, gap[:, None])[0], kept))
        return found

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
        cells, _, values = self._cut_at_levels(np.array(levels, dtype=np.float64), output)
        return self._refine(LEVEL, cells, values)

    def divided_by_class(self) -> PlanePartition:
        """The partition divided further by the decision boundary, which becomes the operator ``decision``.

        Returns:
            A partition in which every cell is decided.

        Raises:
            BadInput: When the followed value is not a vector of outputs, or these are values, not classes.
        """
        return self._refine(DECISION, *self._divide())

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
        t = random_points(self.cells, samples, seed)
        return self.compare_at(model, t, *self.locate_deep(t), every_cell, raises)

    def to_numpy(self) -> dict[str, np.ndarray]:
        """All arrays by name, for ``numpy.savez``."""
        cells = self.cells
        found = {
            "vertices": cells.points,
            "edges": cells.ends,
            "edge_operators": cells.operator,
            "edge_units": cells.unit,
            "edge_cells": cells.edge_cells,
            "cell_starts": cells.starts,
            "cell_corners": cells.corners,
            "cell_edges": cells.sides,
            "areas": cells.areas,
            "depths": self.depths.numpy(),
            "levels": self.levels,
            "operators": np.array(self.operators, dtype=np.str_),
            "tolerance": np.array(self.tolerance),
        }
        if self.kept_values is not None:
            found["values"] = self.kept_values
        if self.frame.anchors is not None:
            found["anchors"] = self.frame.anchors.numpy()
        return found

    def to_geojson(self) -> dict[str, Any]:
        """A FeatureCollection in the plane's coordinates: cells with their class (or values), area and depth."""
        cells, names = self.cells, (*self.operators, None)
        answers, areas, depths = self._answers(), cells.areas.tolist(), self.depths.tolist()
        rings = np.split(cells.points[cells.corners], cells.starts[1:-1])
        features = []
        for number, ring in enumerate(rings):
            properties = {
                "cell": number,
                **answers[number],
                "area": areas[number],
                "cut_by": names[depths[number]],
            }
            outline = [*ring.tolist(), ring[0].tolist()]
            geometry = {"type": "Polygon", "coordinates": [outline]}
            features.append({"type": "Feature", "id": number, "properties": properties, "geometry": geometry})
        return {"type": "FeatureCollection", "features": features}

    def to_networkx(self) -> Any:
        """The adjacency as a networkx graph: a node per cell, an edge per shared edge. Needs networkx.

        Returns:
            ``networkx.Graph``.

        Raises:
            MaxAffineError: When networkx is absent.
        """
        if importlib.util.find_spec("networkx") is None:
            raise MaxAffineError("to_networkx needs networkx, which is not installed; run pip install networkx")
        networkx = importlib.import_module("networkx")
        graph = networkx.Graph()
        for number, (area, answer) in enumerate(zip(self.areas.tolist(), self._answers(), strict=True)):
            graph.add_node(number, area=area, **answer)
        cells = self.cells
        inner = np.flatnonzero((cells.edge_cells >= 0).all(1))
        lengths = np.hypot(*(cells.points[cells.ends[inner, 1]] - cells.points[cells.ends[inner, 0]]).T)
        rows = zip(cells.edge_cells[inner].tolist(), cells.operator[inner], cells.unit[inner], lengths, strict=True)
        for (a, b), operator, unit, length in rows:
            if graph.has_edge(a, b):
                graph.edges[a, b]["length"] += float(length)
            else:
                graph.add_edge(a, b, operator=self.operators[operator], unit=int(unit), length=float(length))
        return graph

    def _divide(self) -> tuple[Complex, np.ndarray]:
        units = self.graph.values[self.number].units
        if len(units) > 1:
            raise BadInput(f"output: a decision needs a vector of outputs, got {units} for each input; choose until=")
        require_classes(self.task, "decision boundary", "level_set(level, output) gives the contours of a value")
        values = self.values.numpy()
        if values.shape[1] == 1:
            done, table = self._cut_at(values)
            return trim(done.cells, grow(table, done.growth))
        window = np.arange(values.shape[1])[None]
        boundary = Boundary(len(self.operators), False, self.tolerance)
        cells, stages = divided_by_extremes(self.cells, values, window, too_small(values), boundary)
        return trim(cells, grow(values, Growth(len(values), stages)))

    def _refine(self, name: str, cells: Complex, values: np.ndarray | None) -> PlanePartition:
        """The partition with cells that are parts of its own, cut by one more operator."""
        finished = self.levels == len(self.operators)
        level = np.where(finished, len(self.operators) + 1, self.levels)
        parent = self.locate(torch.from_numpy(cells.centers)).numpy()
        operators = (*self.operators, name)
        return replace(self, operators=operators, cells=cells, levels=level[parent], kept_values=values)

    def _cut_at_levels(self, levels: np.ndarray, output: int) -> tuple[Complex, np.ndarray, np.ndarray]:
        """Cells cut at some values of one output, how far it is above each at the vertices, and all outputs there."""
        values = self.values.numpy()
        if not 0 <= output < values.shape[1]:
            raise BadInput(f"output: numbers run from 0 to {values.shape[1] - 1}, got {output}")
        # The levels of one output never meet within a cell, so that all of them can cut it at once.
        # A value that is large beside its distance to a level is known to its own rounding only, not to the distance's.
        rounding = ROUNDING * float(largest(self.values[:, [output]]))
        done, table = self._cut_at(values[:, [output]] - levels, rounding)
        carried = [grow(table, done.growth), grow(values, replace(done.growth, knots=None))]
        cells, rows = trim(done.cells, np.concatenate(carried, 1))
        return cells, rows[:, : len(levels)], rows[:, len(levels) :]

    def _cut_at(self, values: np.ndarray, least: float = 0.0) -> tuple[Division, np.ndarray]:
        """Cells cut where one of the columns (V, M) is zero, and the columns with what counts as zero set to it."""
        small = np.maximum(too_small(values), least)
        table = np.where(np.abs(values) <= small, 0, values)
        unit = np.arange(values.shape[1])
        knots = OnKnots(0, unit, np.zeros(len(unit)))
        operator = len(self.operators)
        return divided_by_columns(self.cells, table.copy(), small, unit, knots, operator, self.tolerance), table

    def _segments(self, cells: Complex, classes: np.ndarray, kept: np.ndarray) -> Segments:
        """The edges between cells where the mask is true."""
        edge = np.flatnonzero(kept & (cells.edge_cells >= 0).all(1))
        points = torch.from_numpy(cells.points[cells.ends[edge]])
        return Segments(points, self.locate(points.mean(1)), torch.from_numpy(classes[cells.edge_cells[edge]]))

    def _answers(self) -> list[dict[str, Any]]:
        """What every cell answers, by its kind: a class, or the value or values at its center."""
        if self.task is Task.CLASSES:
            return [{"class": number} for number in self.classes.tolist()]
        rows = self.at(self.centers).tolist()
        return [{"value": row[0]} if len(row) == 1 else {"values": row} for row in rows]

    def compare_at(
        self, model: Callable | None, t: Tensor, cell: Tensor, depth: Tensor, every: bool, raises: bool
    ) -> PlaneReport:
        """Compare a partition with the network at points.

        Args:
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
        chosen, row = np.arange(self.regions), cell.numpy()
        if not every:
            chosen, row = np.unique(row, return_inverse=True)
        own, seen = self.digests(self.centers[torch.from_numpy(chosen)]), self.digests(t)
        size = float(np.hypot(*np.ptp(self.cells.points, axis=0)))
        room = thickness(self.cells)
        thick: np.ndarray = room[chosen] > THIN * size
        clear: np.ndarray = depth.numpy() > THIN * size
        # A code's region is convex, so no two cells share one, however thin they are, unless they were divided further.
        parent = self._parents()[chosen]
        counts = np.unique(own[np.unique(parent, return_index=True)[1]], return_counts=True)[1]
        missed = clear & ~np.isin(seen, own)
        misplaced = clear & (own[row] != seen)
        for place in np.flatnonzero(missed | misplaced).tolist():
            if self._crosses(t[place], self.centers[cell[place]], room[cell[place]] / 2):
                break  # the others no longer matter
            clear[place] = missed[place] = misplaced[place] = False
        error, agrees = (
            (None, True)
            if model is None
            else self._module_error(model, t[torch.from_numpy(clear)], cell[torch.from_numpy(clear)])
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

    def _parents(self) -> np.ndarray:
        """(F,) a number that cells have in common which were one until they were divided by class or by levels."""
        cells, operators = self.cells, len(levels(self.graph)) - 1
        within = (cells.operator >= operators) & (cells.edge_cells >= 0).all(1)
        return groups(cells.edge_cells[within], self.regions)

    def _crosses(self, t: Tensor, center: Tensor, beyond: float) -> bool:
        """Whether a unit changes between a point and a bit beyond a center, but for those that are zero all over."""
        end = center + beyond * torch.nn.functional.normalize(center - t, dim=0)
        start, end = (self.frame.points(point[None]) for point in (t, end))
        walk = Walk(self.graph, Segment(self.frame.net, start, end), TOLERANCE, MEMORY)
        with torch.no_grad():
            return any(len(block.at) for block in walk.blocks())

    def digests(self, t: Tensor) -> np.ndarray:
        """A digest of all codes at each point: equal where all codes are.

        Args:
            t: (N, 2).

        Returns:
            (N,) pairs of integers.
        """
        found = [np.zeros(0, dtype=DIGEST)]
        for tensors in self.batches(t):
            rows = [np.ascontiguousarray(as_rows(codes).numpy()) for _, codes in self.graph.codes(tensors)]
            count = len(rows[0]) if rows else tensors[0].shape[self.frame.net.inputs.batch_dims[0]]
            digests = [
                hashlib.blake2b(b"".join(row[place].tobytes() for row in rows), digest_size=16).digest()
                for place in range(count)
            ]
            found.append(np.frombuffer(b"".join(digests), dtype=DIGEST))
        return np.concatenate(found)

    def _module_error(self, model: Callable, t: Tensor, cell: Tensor) -> tuple[float, bool]:
        """How far the cells' affine maps are from the module's values at points, and whether rounding explains it."""
        graph = self.frame.net.graph
        if self.number not in graph.outputs:
            raise BadInput("model: its values after until= cannot be read off the module; leave model out")
        place = graph.outputs.index(self.number)
        dtype = self.dtype
        worst, largest, at = 0.0, 0.0, (0, 0)
        if not prod(graph.values[self.number].units):
            return 0.0, True
        slopes, offsets = self.plane_map(torch.unique(cell))
        row = torch.unique(cell, return_inverse=True)[1]
        expected = (slopes[row] * t[:, None]).sum(2) + offsets[row]
        first = 0
        for tensors in self.batches(t):
            narrow = [item.to(dtype) if item.is_floating_point() else item for item in tensors]
            given = self.frame.packed(narrow)
            with torch.no_grad():
                result = model(**given) if isinstance(given, dict) else model(*narrow)
            value = graph.values[self.number].to_rows(tree_leaves(result)[place]).double()
            gap = difference(value, expected[first : first + len(value)]).abs()
            if not bool(gap.isfinite().all()):
                return float("inf"), False
            if float(gap.max()) > worst:
                row_at, unit = divmod(int(gap.argmax()), gap.shape[1])
                worst, at = float(gap.max()), (first + row_at, unit)
            largest = max(largest, size(without_infinities(value)))
            first += len(value)
        bound = AGREEMENT.get(dtype, 1e-2)
        if worst > bound * largest:
            # The outputs may have cancelled: rounding is that of the terms that the worst one is made of.
            largest = max(largest, self._terms(t[at[0]], at[1]))
        error = worst / max(largest, 1e-300)
        return error, error <= bound

    def _terms(self, t: Tensor, unit: int) -> float:
        """The size of what one unit of the followed value is made of at a point (2,)."""
        x = self.frame.points(t[None])
        u = torch.zeros(1, prod(self.frame.net.graph.values[self.number].units), dtype=torch.float64)
        u[0, unit] = 1
        weights = u.reshape(1, *self.frame.net.graph.values[self.number].units)
        return float(terms(self.frame.net, self.number, x, x, weights, offset=True).max())

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
