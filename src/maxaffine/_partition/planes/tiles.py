"""A partition of a plane in tiles on disk: whole cells each, without gap or overlap between them.

A tile is a partition of its own part of the polygon, so that whatever can be asked of one in memory can be asked of a
tile. What holds for all of them together is read off the lines about them, or from one tile after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._partition.planes.blocks import Leaf
from maxaffine._partition.planes.checks import AREA, border_lengths, check_borders
from maxaffine._partition.planes.complex import Complex
from maxaffine._partition.planes.folder import FORMAT, HEAD, TENSORS, VERSION, Entry, read_lines, read_tile
from maxaffine._partition.planes.frame import Frame
from maxaffine._partition.planes.glue import glue
from maxaffine._partition.planes.partition import PlanePartition
from maxaffine._partition.planes.verify import PlaneReport, random_points
from maxaffine.errors import BadInput, DataError, PartitionError


@dataclass(frozen=True, eq=False, repr=False)
class PlaneTiles:
    """The regions of a network on a polygon of a plane, in a folder; made by :func:`maxaffine.partition.stream_plane`.

    Every cell lies in one tile, whole. Tiles are read when they are asked for, so that one at a time is in memory.

    Attributes:
        folder: Where they are.
        frame: The plane x(t) = origin + t basis, and the network in float64.
        operators: Names of the piecewise-affine operators, in running order.
        corners: (n, 2) of the polygon.
        complete: Whether the tiles fill the polygon; after Ctrl-C or a crash they do not.
        entries: What the folder says of each tile.
        head: What else it says.
    """

    folder: Path
    frame: Frame
    operators: tuple[str, ...]
    corners: np.ndarray
    complete: bool
    entries: tuple[Entry, ...]
    head: dict[str, Any]

    @classmethod
    def open(cls, net: SplineNetwork, folder: str | PathLike[str]) -> PlaneTiles:
        """Open a folder.

        Args:
            net: The network that was partitioned.
            folder: Of :func:`maxaffine.partition.stream_plane`, finished or not.

        Returns:
            The tiles that are there.

        Raises:
            BadInput: When it was another network.
            DataError: When there are no tiles, or a file is damaged.
        """
        path = Path(folder)
        try:
            head = json.loads((path / HEAD).read_text(encoding="utf-8"))
            tensors = load_file(path / TENSORS)
            if (head["format"], head["version"]) != (FORMAT, VERSION):
                cure = "open it with the maxaffine that wrote it, or partition again"
                raise DataError(f"{path} has format {head['format']} {head['version']}, not {VERSION}; {cure}")
            operators, corners = tuple(head["operators"]), np.array(head["corners"])
            origin, basis = ([tensors[f"{part}_{n}"] for n in range(head["inputs"])] for part in ("origin", "basis"))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DataError(f"{path} holds no tiles of a plane: {error!r}; write it with stream_plane") from error
        if head["fingerprint"] != net.fingerprint:
            raise BadInput("net: the tiles are of another network (its fingerprint differs); capture the same module")
        frame = Frame(net.double(), tuple(origin), tuple(basis), tensors.get("anchors"))
        entries, complete, _ = read_lines(path)
        return cls(path, frame, operators, corners, complete, tuple(entries), head)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> PlanePartition:
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} tiles, got {number}")
        return self._partition([self._leaf(self.entries[number])])

    def __iter__(self) -> Iterator[PlanePartition]:
        return (self[number] for number in range(len(self)))

    @property
    def regions(self) -> int:
        """Number of cells in all tiles."""
        return sum(entry.regions for entry in self.entries)

    @property
    def area(self) -> float:
        """Area of all tiles."""
        return float(np.sum([entry.area for entry in self.entries]))

    @property
    def polygon_area(self) -> float:
        """Area of the polygon."""
        return float(Complex.polygon(self.corners).areas[0])

    def locate(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The tile and the cell of each point.

        Args:
            t: (N, 2) coordinates.

        Returns:
            (N,) numbers of tiles and (N,) cells within them, -1 where there is no tile.
        """
        return self._deep(torch.as_tensor(t, dtype=torch.float64))[:2]

    def _deep(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tile and cell of each point, and how far inside it lies."""
        tile, cell = torch.full((len(t),), -1), torch.full((len(t),), -1)
        best = torch.full((len(t),), -np.inf, dtype=torch.float64)
        # A point on a border lies in a tile on either side: in the one in which it lies deeper.
        for number, entry in enumerate(self.entries):
            left, right, bottom, top = entry.box
            inside = (t[:, 0] >= left) & (t[:, 0] <= right) & (t[:, 1] >= bottom) & (t[:, 1] <= top)
            rows = torch.nonzero(inside).flatten()
            if len(rows):
                found, depth = self[number].locate_deep(t[rows])
                better = (found >= 0) & (depth > best[rows])
                rows, found, depth = rows[better], found[better], depth[better]
                tile[rows], cell[rows], best[rows] = number, found, depth
        return tile, cell, best

    def verify(self, model: Any = None, *, samples: int = 4096, seed: int = 0, raises: bool = True) -> PlaneReport:
        """Compare the cells that hold random points with the network, and with the untouched module.

        Args:
            model: The user's module, re-run at the points; left out when None.
            samples: Random points of the polygon.
            seed: For the points.
            raises: Whether a disagreement raises.

        Returns:
            As :meth:`PlanePartition.verify`; points in no tile count as missed.

        Raises:
            PartitionError: When the partition and the network's codes disagree and ``raises`` is true.
            ExactnessError: When the cells' maps and the module disagree.
        """
        t = random_points(Complex.polygon(self.corners), samples, seed)
        tile, cell, depth = self._deep(t)
        parts = []
        for number in torch.unique(tile[tile >= 0]).tolist():
            rows = tile == number
            parts.append(self[number].compare_at(model, t[rows], cell[rows], depth[rows], False, raises))
        lost = int((tile < 0).sum())
        regions, thin, repeated, edgy, missed, misplaced = (
            sum(getattr(part, name) for part in parts)
            for name in ("regions", "thin", "repeated", "edgy", "missed", "misplaced")
        )
        errors = [part.error for part in parts if part.error is not None]
        exact = not lost and all(part.exact for part in parts)
        error = max(errors) if errors else None
        report = PlaneReport(regions, thin, repeated, samples, edgy, missed + lost, misplaced, error, exact)
        if raises and lost:
            raise PartitionError(f"{lost} points of the polygon lie in no tile", tuple(t[tile < 0][0].tolist()))
        return report

    def check(self) -> None:
        """Read all tiles and check each one's geometry, both sides of all their borders, and the total area.

        Raises:
            PartitionError: When something does not fit, or tiles are missing.
            DataError: When a file is damaged.
        """
        borders, lengths = [], []
        for entry in self.entries:
            leaf = self._leaf(entry)
            self._partition([leaf]).check_geometry()
            borders.append(leaf.borders)
            lengths.append(border_lengths(leaf.cells, len(leaf.borders)))
        if not self.complete or abs(self.area - self.polygon_area) > AREA * self.polygon_area:
            raise PartitionError(f"the tiles have area {self.area}, the polygon {self.polygon_area}")
        # Each tile alone may be sound, and yet leave a gap to its neighbor: along the border both must be as long.
        check_borders(np.concatenate(borders), np.concatenate(lengths))

    def whole(self) -> PlanePartition:
        """All tiles as one partition, in memory.

        Returns:
            What :func:`maxaffine.partition.plane` gives.

        Raises:
            DataError: When tiles are missing or damaged.
        """
        if not self.complete:
            raise DataError(f"{self.folder} is not complete; call stream_plane with the same arguments to go on")
        found = self._partition([self._leaf(entry) for entry in self.entries])
        found.check_geometry(self.corners)
        return found

    def _leaf(self, entry: Entry) -> Leaf:
        return read_tile(self.folder, entry, len(self.operators))

    def _partition(self, leaves: list[Leaf]) -> PlanePartition:
        """Tiles as one partition."""
        width, number, dtype = self.head["tolerance"], self.head["number"], getattr(torch, self.head["dtype"])
        cells, values, level = glue(leaves, width)
        return PlanePartition(self.frame, self.operators, cells, level, width, number, values, dtype)

    def __repr__(self) -> str:
        state = "" if self.complete else f" (not complete: {100 * self.area / self.polygon_area:.3g}% of the area)"
        return f"PlaneTiles: {self.regions} regions in {len(self)} tiles in {self.folder}{state}"
