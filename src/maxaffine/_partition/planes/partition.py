"""A partition of a plane: its geometry, and what the network is on every cell.

The cells are arrays (see ``complex/``), and a cell is known by a point inside it: its codes and its affine map are
those of the network there, computed when they are asked for. What is kept are the outputs at the vertices, of which
every output on a cell is an affine combination; decision boundaries and level sets come from them alone, by the same
division that made the cells.
"""

from __future__ import annotations

import hashlib
import html
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from maxaffine._codes import Codes
from maxaffine._drawing import Kind, kind_of, short
from maxaffine._graph import Graph, as_rows
from maxaffine._maps import AffineMap
from maxaffine._network import Task, difference, relative_error, require_classes, rerun, size, terms, without_infinities
from maxaffine._partition.lines.partition import MEMORY, TOLERANCE
from maxaffine._partition.lines.segment import Segment
from maxaffine._partition.lines.walk import Walk
from maxaffine._partition.planes import checks, drawing
from maxaffine._partition.planes.boundary import (
    DECISION,
    LEVEL,
    Contours,
    Segments,
    norms_by_corners,
    round_levels,
    winners,
)
from maxaffine._partition.planes.checks import PlaneReport
from maxaffine._partition.planes.complex.cells import Complex
from maxaffine._partition.planes.complex.faces import groups
from maxaffine._partition.planes.divide import ROUNDING, divide_by_columns, too_small
from maxaffine._partition.planes.extremes import Boundary, divide_by_extremes
from maxaffine._partition.planes.growth import extend_table
from maxaffine._partition.planes.levels import largest, levels
from maxaffine._partition.planes.locate import Locator
from maxaffine._partition.planes.task import Frame
from maxaffine.errors import BadInput, ExactnessError, MaxAffineError, PartitionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

COLORINGS = ("class", "value", "norm", "depth")
Chosen = Sequence[int] | Tensor | np.ndarray | slice | None
INPUT_BYTES = 64 * 2**20
# Slopes that are held together where only their norms are kept.
SLOPES_AT_ONCE = 2**24


def _array(name: str, doc: str) -> cached_property[Tensor]:
    """An array of the cells, as a tensor that shares its memory."""

    def read(found: PlanePartition) -> Tensor:
        return torch.from_numpy(getattr(found.cells, name))

    read.__doc__ = doc
    return cached_property(read)


@dataclass(frozen=True, eq=False, repr=False)
class PlanePartition:
    """The regions of a network on a polygon of a plane; made by :func:`maxaffine.partition.plane`.

    Attributes:
        frame: The plane x(t) = origin + t basis, and the network in float64.
        operators: Names of the piecewise-affine operators, in running order.
        cells: Vertices, edges and cells in flat arrays.
        levels: (F,) how many operators have divided each cell: all, unless the run was interrupted.
        tolerance: Points of the plane closer than this count as one.
        number: Number of the value of the graph that is followed.
        kept_values: (V, C) outputs at the vertices; None where they were not kept.
        dtype: What the network was captured in.
    """

    frame: Frame
    operators: tuple[str, ...]
    cells: Complex
    levels: np.ndarray
    tolerance: float
    number: int
    kept_values: np.ndarray | None
    dtype: torch.dtype

    @property
    def regions(self) -> int:
        """Number of cells F."""
        return len(self.cells.starts) - 1

    @property
    def complete(self) -> bool:
        """Whether all cells are divided by all operators; not after Ctrl-C."""
        return bool((self.levels >= len(self.operators)).all())

    vertices = _array("points", "(V, 2) coordinates of the vertices.")
    edges = _array("ends", "(E, 2) the vertices that each edge joins.")
    edge_operators = _array("operator", "(E,) place in ``operators`` of the one whose boundary it is; -1 on the rim.")
    edge_units = _array("unit", "(E,) flat number of a unit of that operator whose boundary it is; -1 on the rim.")
    edge_cells = _array("edge_cells", "(E, 2) the cells on the left and on the right of each edge; -1 beyond the rim.")
    areas = _array("areas", "(F,) area of each cell, in the plane's coordinates.")
    centers = _array("centers", "(F, 2) a point inside each cell: the mean of its corners.")

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
        """(n, 2) a cell's corners, counter-clockwise; three may lie on a line, where a neighbor has one."""
        if not 0 <= cell < self.regions:
            raise BadInput(f"cell: numbers run from 0 to {self.regions - 1}, got {cell}")
        start, end = self.cells.starts[cell : cell + 2]
        return torch.from_numpy(self.cells.points[self.cells.corners[start:end]])

    def check_geometry(self, corners: np.ndarray | None = None) -> None:
        """Check Euler's formula, the area (of the polygon with these corners, n x 2), all cells and all edges."""
        checks.check_geometry(self.cells, self.tolerance, corners)

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
        """(F,) the class at each cell's center: the largest output, the lowest at a tie, or whether one is above 0."""
        return torch.from_numpy(self._winners[0])

    @property
    def decided(self) -> Tensor:
        """(F,) whether the class is the same all over the cell: no decision boundary passes through it."""
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
        """The inputs at points (N, 2) of the plane: a batch, as the network in float64 takes them."""
        return self.frame.net.inputs.nest(self.frame.points(self.checked(t)))

    def at(self, t: Tensor) -> Tensor:
        """(N, C) the network's own outputs at points (N, 2) of the plane, by running it."""
        value = self.graph.values[self.number]
        parts = [value.to_rows(self.graph.run(tensors)[0]) for tensors in self.batches(self.checked(t))]
        return torch.cat(parts) if parts else torch.zeros(0, prod(value.units), dtype=torch.float64)

    def locate(self, t: Tensor) -> Tensor:
        """(N,) the cell of each point (N, 2), of two at an edge either, -1 outside; see ``frame.coordinates``."""
        return self.locate_deep(t)[0]

    def locate_deep(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) the cell of each point (N, 2), -1 outside the polygon; and how far inside it the point lies."""
        cell, depth = self._locator.locate(self.checked(t).numpy())
        return torch.from_numpy(cell), torch.from_numpy(depth)

    @cached_property
    def _locator(self) -> Locator:
        return Locator(self.cells, self.tolerance)

    def codes(self, cells: Chosen = None) -> Codes:
        """The codes of all operators, a row per cell of a list or slice (all by default), as at their centers."""
        batches = []
        for tensors in self.batches(self._centers_of(cells)):
            found = {record.name: (codes, record.pieces) for record, codes in self.graph.codes(tensors)}
            batches.append(Codes.from_tensors(found, batch=tensors[0].shape[self.frame.net.inputs.batch_dims[0]]))
        return Codes.concat(batches)

    def affine_map(self, cells: Chosen = None, **options: Any) -> AffineMap:
        """The maps f(x) = A x + b of some cells, lazy; options as of :class:`maxaffine.AffineMap`."""
        net = self.frame.net
        names = net.inputs.names if net.inputs.keyword else ()
        return AffineMap(self.graph, self.frame.points(self._centers_of(cells)), names=names, **options)

    def plane_map(self, cells: Chosen = None) -> tuple[Tensor, Tensor]:
        """f(x(t)) = slopes t + offsets on some cells: slopes (n, C, 2) and offsets (n, C), C outputs flattened."""
        t, dims = self._centers_of(cells), self.frame.net.inputs.batch_dims
        parts = []
        for tensors in self.batches(t):
            count = tensors[0].shape[dims[0]]
            # At the center: its value, and how the map takes each axis of the plane. One block, whose codes they share.
            amap = AffineMap(self.graph, tensors, chunk_bytes=8 * INPUT_BYTES)
            pairs = list(zip(self.frame.basis, dims, strict=True))
            axes = [[b.narrow(dim, axis, 1).repeat_interleave(count, dim) for b, dim in pairs] for axis in (0, 1)]
            pushed = [amap.mv(axis).reshape(count, -1) for axis in axes]
            parts.append((torch.stack(pushed, -1), amap.value.reshape(count, -1)))
        slopes, value = (torch.cat(items) for items in zip(*parts, strict=True))
        return slopes, value - (slopes * t[:, None]).sum(2)

    @cached_property
    def slope_norms(self) -> Tensor:
        """(F,) how steep each cell is: the norm of its slopes within the plane, over all outputs, to nine digits."""
        norms, unsure = torch.empty(self.regions, dtype=torch.float64), torch.arange(self.regions)
        if self.kept_values is not None:
            found, errors = norms_by_corners(self.cells, self.kept_values)
            norms, unsure = torch.from_numpy(found), torch.from_numpy(np.flatnonzero(~(errors < 1e-9 * found)))
        size = max(1, SLOPES_AT_ONCE // prod(self.graph.values[self.number].units))
        for part in unsure.split(size) if len(unsure) else ():
            norms[part] = as_rows(self.plane_map(part)[0]).norm(dim=1)
        return norms

    def decision_boundary(self) -> Segments:
        """Where the class changes, the largest output or the sign of a single one; values and pictures are refused."""
        # After the division one class wins all over every cell, so the boundary is made of edges between two of them.
        cells, values = self._divide()
        classes, _ = winners(cells, values)
        return self._segments(cells, classes, np.not_equal(*classes[cells.edge_cells].T))

    def level_set(self, level: float = 0.0, output: int = 0) -> Segments:
        """Where one output has a value, within cells or along edges; none inside a cell that has it all over."""
        return self.level_sets([level], output)[0]

    def level_sets(self, levels: Sequence[float], output: int = 0) -> list[Segments]:
        """Several level sets of one output, as :meth:`level_set` gives each; all are found at once."""
        cells, gaps, _ = self._cut_at_levels(levels, output)
        return [self._level_segments(cells, gap) for gap in gaps.T]

    def divided_by_levels(self, levels: Sequence[float], output: int = 0) -> PlanePartition:
        """The partition in which one output crosses none of some increasing values within a cell."""
        cells, _, values = self._cut_at_levels(levels, output)
        return self._refine(LEVEL, cells, values)

    def divided_by_class(self) -> PlanePartition:
        """The partition divided further by the decision boundary, so that every cell is decided."""
        return self._refine(DECISION, *self._divide())

    def contours(self, output: int = 0) -> Contours[PlanePartition]:
        """One output in bands between about nine round values. Needs matplotlib, which knows such values."""
        column = self._column(output)[np.unique(self.cells.corners)]
        low, high = float(column.min()), float(column.max())
        levels = round_levels(low, high)
        cells, gaps, values = self._cut_at_levels(levels, output)
        lines = tuple(self._level_segments(cells, gap) for gap in gaps.T)
        # Affine on a cell, so the mean over its corners is a value inside it.
        means = np.add.reduceat(values[cells.corners, output], cells.starts[:-1]) / cells.counts
        bands = self._refine(LEVEL, cells, values)
        return Contours(low, high, tuple(levels), lines, bands, np.searchsorted(levels, means))

    @property
    def coloring(self) -> str:
        """How cells are colored by default: by "class", "value" or, where an output is a picture, "norm"."""
        if len(self.graph.values[self.number].units) > 1:
            return "norm"
        return "class" if self.task is Task.CLASSES else "value"

    def name_answers(self, names: Sequence[str] | None = None) -> Callable[[int], str]:
        """What to call classes, or values, by their numbers: their names, or the numbers where there are none."""
        count, classes = prod(self.graph.values[self.number].units), self.task is Task.CLASSES
        if names is None:
            return str if classes else lambda number: "the value" if count == 1 else f"value {number}"
        count = max(2, count) if classes else count  # a single output has a class on either side of zero
        if len(names) < count:
            kind = "classes" if classes else "values"
            raise BadInput(f"class_names: {len(names)} for {count} {kind}; give one for each")
        return names.__getitem__

    def plot(
        self,
        ax: Axes | None = None,
        coloring: str | None = None,
        *,
        output: int = 0,
        names: Sequence[str] | None = None,
        boundary: bool = True,
        anchors: bool = True,
        cmap: str | Colormap | None = None,
        linewidth: float | None = None,
        rasterized: bool | None = None,
        size: float = 4.5,
    ) -> Axes:
        """Draw the cells.

        Args:
            ax: Where to draw; axes of a new figure by default.
            coloring: By ``"class"`` (the largest output, exact within cells too), ``"value"`` (bands between exact
                level sets of one output), ``"norm"`` (of the slopes of the map within the plane) or ``"depth"`` (the
                last operator that cut the cell); by default what the network answers.
            output: Flat number of the output of ``"value"``.
            names: Names of the classes, or of the values; their numbers by default.
            boundary: Whether the decision boundary of classes is drawn in bold.
            anchors: Whether the inputs that span the plane are marked, with their pictures where they are images.
            cmap: A color map of matplotlib instead of the coloring's own.
            linewidth: Width of the cells' edges in points; 0 draws none. Hairlines where there are many, by default.
            rasterized: Whether cells and edges become pixels in a PDF or SVG; by default where there are more than
                3,000, of which vectors would weigh megabytes.
            size: Longer side of a new figure in inches.

        Returns:
            The axes. The norms at the ends of ``"norm"``, a hundredth of the area on either side, share a color.

        Raises:
            BadInput: For an unknown coloring or output, too few names, or classes of outputs that are values.
            MaxAffineError: When matplotlib is absent.
        """
        coloring = coloring or self.coloring
        if coloring not in COLORINGS:
            raise BadInput(f"coloring: expected one of {', '.join(COLORINGS)}, got {coloring!r}")
        called, ax = self.name_answers(names), drawing.axes_around(self.cells, ax, size)
        style = drawing.Style(cmap, linewidth, rasterized)
        contours = self.contours(output) if coloring == "value" else None
        if contours is not None:
            drawing.draw_bands(ax, contours.bands.cells, contours, style)
            title = f"{short(called(output), 30)} ({self.regions} regions)"
        elif coloring == "class":
            divided = self.divided_by_class()
            drawing.draw_classes(ax, divided.cells, divided.classes.numpy(), called, style)
            title = f"class ({self.regions} regions)"
        elif coloring == "norm":
            drawing.draw_norms(ax, self.cells, self.slope_norms.numpy(), style)
            title = "norm of the slopes within the plane"
        else:
            drawing.draw_depths(ax, self.cells, self.depths.numpy(), self.operators, style)
            title = "operator that cut the cell last"
        ax.set_title(title, fontsize=9, parse_math=False)
        drawing.draw_edges(ax, self.cells, "#333333" if coloring == "class" else "white", style)
        if contours is not None:
            drawing.draw_levels(ax, contours, self.task is Task.FIELD and self.values.shape[1] == 1)
        if boundary and self.task is Task.CLASSES:
            drawing.draw_segments(ax, self.decision_boundary(), 1.8)
        spanned = self.frame.anchors
        if anchors and spanned is not None:
            inside = np.flatnonzero(self.locate(spanned).numpy() >= 0).tolist()
            inputs, dims = self.frame.points(spanned), self.frame.net.inputs.batch_dims
            rows = inputs[0].movedim(dims[0], 0).numpy()
            pictures = len(inputs) == 1 and rows.ndim <= 5 and kind_of(rows.shape[1:]) is Kind.PICTURE
            drawing.draw_anchors(ax, spanned, inside, list(rows) if pictures else [])
        for axis, label in ((ax.xaxis, "t₁"), (ax.yaxis, "t₂")):
            axis.set_label_text(label if spanned is None else "distance in input space", fontsize=8)
        return ax

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
        t = checks.random_points(self.cells, samples, seed)
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
            properties = {"cell": number} | answers[number]
            properties |= {"area": areas[number], "cut_by": names[depths[number]]}
            geometry = {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}
            features.append({"type": "Feature", "id": number, "properties": properties, "geometry": geometry})
        return {"type": "FeatureCollection", "features": features}

    def to_networkx(self) -> Any:
        """The adjacency as a ``networkx.Graph``: a node per cell, an edge per shared edge. Needs networkx."""
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
            cells, table, _ = self._cut_at(values, values)
            return cells, table
        window = np.arange(values.shape[1])[None]
        boundary = Boundary(len(self.operators), False, self.tolerance)
        cells, stages = divide_by_extremes(self.cells, values, window, too_small(values), boundary)
        cells, vertices = cells.compact()
        return cells, extend_table(values, stages)[vertices]

    def _refine(self, name: str, cells: Complex, values: np.ndarray | None) -> PlanePartition:
        """The partition with cells that are parts of its own, cut by one more operator."""
        finished = self.levels == len(self.operators)
        level = np.where(finished, len(self.operators) + 1, self.levels)
        # Every part lies within one cell, which holds its center.
        parent = self.locate(torch.from_numpy(cells.centers)).numpy()
        operators = (*self.operators, name)
        return replace(self, operators=operators, cells=cells, levels=level[parent], kept_values=values)

    def _column(self, output: int) -> np.ndarray:
        """(V,) one output at the vertices."""
        count = self.values.shape[1]
        if not 0 <= output < count:
            raise BadInput(f"output: numbers run from 0 to {count - 1}, got {output}")
        return self.values[:, output].numpy()

    def _cut_at_levels(self, levels: Sequence[float], output: int) -> tuple[Complex, np.ndarray, np.ndarray]:
        """Cells cut at some values of one output, how far it is above each at the vertices, and all outputs there."""
        gaps = self._column(output)[:, None] - np.array(levels, dtype=np.float64)
        # The levels of one output never meet within a cell, so that all of them can cut it at once.
        # A value that is large beside its distance to a level is known to its own rounding only, not to the distance's.
        rounding = ROUNDING * float(largest(self.values[:, [output]].numpy())[0])
        return self._cut_at(gaps, self.values.numpy(), rounding)

    def _cut_at(
        self, columns: np.ndarray, values: np.ndarray, least: float = 0.0
    ) -> tuple[Complex, np.ndarray, np.ndarray]:
        """Cells cut where one of the columns (V, M) is zero, the columns at their vertices, and values likewise."""
        small = np.maximum(too_small(columns), least)
        table = np.where(np.abs(columns) <= small, 0, columns)
        unit, operator = np.arange(columns.shape[1]), len(self.operators)
        cells, growth = divide_by_columns(self.cells, table.copy(), small, unit, None, operator, self.tolerance)
        cells, vertices = cells.compact()
        stages = growth.stages
        return cells, extend_table(table, stages, unit)[vertices], extend_table(values, stages)[vertices]

    def _level_segments(self, cells: Complex, gap: np.ndarray) -> Segments:
        """The level set on which a division has put a column of gaps (V,) to exact zeros."""
        # An edge is part of it where both of its ends are, unless the output equals the level all over both cells
        # beside it.
        reached = gap == 0
        flat = np.logical_and.reduceat(reached[cells.corners], cells.starts[:-1])
        kept = reached[cells.ends].all(1) & ~flat[cells.edge_cells].all(1)
        return self._segments(cells, winners(cells, gap[:, None])[0], kept)

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
        self, model: nn.Module | None, t: Tensor, cell: Tensor, depth: Tensor, every: bool, raises: bool
    ) -> PlaneReport:
        """Compare with the network, and a module, at points (N, 2) in cells (N,), so deep inside, as `verify` does."""
        # The codes of cells are those at their centers; equal codes have equal digests.
        chosen, row = np.arange(self.regions), cell.numpy()
        if not every:
            chosen, row = np.unique(row, return_inverse=True)
        own, seen = self.digests(self.centers[torch.from_numpy(chosen)]), self.digests(t)
        size = float(np.hypot(*np.ptp(self.cells.points, axis=0)))
        room = checks.thickness(self.cells)
        thick: np.ndarray = room[chosen] > checks.THIN * size
        clear: np.ndarray = depth.numpy() > checks.THIN * size
        # A code's region is convex, so no two cells share one, however thin they are, unless they were divided further.
        parent = self._parents()[chosen]
        counts = np.unique(own[np.unique(parent, return_index=True)[1]], return_counts=True)[1]
        missed = clear & ~np.isin(seen, own)
        misplaced = clear & (own[row] != seen)
        # Codes may differ between a point and the center of its cell in units alone that are zero all over the cell, up
        # to rounding. Then nothing changes on the line between them, followed exactly; if something does, it is wrong.
        for place in np.flatnonzero(missed | misplaced).tolist():
            if self._crosses(t[place], self.centers[cell[place]], room[cell[place]] / 2):
                break  # the others no longer matter
            clear[place] = missed[place] = misplaced[place] = False
        compared, error, agrees = torch.from_numpy(clear), None, True
        if model is not None:
            error, agrees = self._module_error(model, t[compared], cell[compared])
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
        # An edge of an operator beyond the network's own was drawn by a division by class or by levels.
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
        """(N,) a digest of all codes at each point (N, 2): equal where all codes are."""
        found = [np.zeros(0, dtype=checks.DIGEST)]
        for tensors in self.batches(t):
            rows = [np.ascontiguousarray(as_rows(codes).numpy()) for _, codes in self.graph.codes(tensors)]
            count = len(rows[0]) if rows else tensors[0].shape[self.frame.net.inputs.batch_dims[0]]
            digests = [
                hashlib.blake2b(b"".join(row[place].tobytes() for row in rows), digest_size=16).digest()
                for place in range(count)
            ]
            found.append(np.frombuffer(b"".join(digests), dtype=checks.DIGEST))
        return np.concatenate(found)

    def _module_error(self, model: nn.Module, t: Tensor, cell: Tensor) -> tuple[float, bool]:
        """How far the cells' affine maps are from the module's values at points, and whether rounding explains it."""
        net = self.frame.net
        if self.number not in net.graph.outputs:
            raise BadInput("model: its values after until= cannot be read off the module; leave model out")
        value = net.graph.values[self.number]
        count = prod(value.units)
        if not len(t) or not count:
            return 0.0, True
        slopes, offsets = self.plane_map(torch.unique(cell))
        row = torch.unique(cell, return_inverse=True)[1]
        expected = (slopes[row] * t[:, None]).sum(2) + offsets[row]
        call, place = rerun(net, model), net.graph.outputs.index(self.number)
        given = []
        for tensors in self.batches(t):
            narrow = tuple(item.to(self.dtype) if item.is_floating_point() else item for item in tensors)
            with torch.no_grad():
                given.append(value.to_rows(call(narrow)[place]).double())
        gap = difference(torch.cat(given), expected)
        if not gap.isfinite().all():
            return float("inf"), False
        bound, scale = checks.AGREEMENT.get(self.dtype, 1e-2), size(without_infinities(torch.cat(given)))

        def terms_of_worst(u: Tensor) -> float:
            worst, unit = divmod(int(u.argmax()), count)
            x = self.frame.points(t[[worst]])
            weights = torch.zeros(1, count, dtype=torch.float64)
            weights[0, unit] = 1
            return float(terms(net, self.number, x, x, weights.reshape(1, *value.units), offset=True).max())

        # The outputs may have cancelled: rounding is that of the terms that the worst one is made of.
        error = relative_error(gap.reshape(1, -1), scale, bound, terms_of_worst)
        return error, error <= bound

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
        """The inputs at points (N, 2), in batches so small that the network's values there fit in memory."""
        step = max(1, INPUT_BYTES // (8 * self.graph.largest_value()))
        return (self.frame.points(part) for part in t.split(step) if len(part))

    def checked(self, t: Tensor) -> Tensor:
        """Coordinates as float64, once they are finite and (N, 2)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        if t.dim() != 2 or t.shape[1] != 2 or not t.isfinite().all():
            raise BadInput(f"t: expected finite coordinates (N, 2), got shape {tuple(t.shape)}")
        return t

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
