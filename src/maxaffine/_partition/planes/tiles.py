"""A partition of a plane in tiles on disk: whole cells each, without gap or overlap between them.

A tile is a partition of its own part of the polygon, so that whatever can be asked of one in memory can be asked of a
tile. What holds for all of them together is read off the lines about them, or from one tile after the other.

``plane.json`` and ``plane.safetensors`` say what is partitioned. Every line of ``tiles.jsonl`` names a finished tile,
a safetensors file with a CRC-32; the line is written after the file, so that what is listed is whole. A last line
says that nothing is missing. A line that a crash cut short is left out by readers, and written anew by the next run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from maxaffine._capture import SplineNetwork
from maxaffine._files import checksum, replacing
from maxaffine._partition.planes.blocks import Leaf
from maxaffine._partition.planes.checks import AREA, PlaneReport, border_lengths, check_borders, random_points
from maxaffine._partition.planes.complex.cells import Complex, starts_of
from maxaffine._partition.planes.glue import glue
from maxaffine._partition.planes.partition import PlanePartition
from maxaffine._partition.planes.task import Frame, Task
from maxaffine.errors import BadInput, DataError, PartitionError

FORMAT, VERSION = "maxaffine.plane", 2
HEAD, TENSORS, TILES = "plane.json", "plane.safetensors", "tiles.jsonl"
COMPLETE = {"complete": True}
NARROW = ("ends", "operator", "unit", "chain", "corners", "sides")  # kept as 32-bit integers


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    try:
        with replacing(path) as new:
            new.write_bytes(content)
    except OSError as error:
        raise DataError(f"{path} could not be written: {error}; check folder, permissions and free space") from error


def prepare(path: Path, task: Task, fingerprint: str) -> None:
    """Write what is partitioned, or compare it with what the folder holds."""
    # All that the tiles depend on: a run that differs in any of it divides otherwise, and cannot go on with them.
    head = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": fingerprint,
        "number": task.number,
        "operators": list(task.operators),
        "dtype": str(task.dtype).removeprefix("torch."),
        "tolerance": task.tolerance,
        "memory": task.memory,
        "keep_values": task.keep_values,
        "corners": task.corners.tolist(),
        "inputs": len(task.frame.origin),
    }
    frame = task.frame
    tensors = {f"origin_{n}": item.contiguous() for n, item in enumerate(frame.origin)}
    tensors |= {f"basis_{n}": item.contiguous() for n, item in enumerate(frame.basis)}
    if frame.anchors is not None:
        tensors["anchors"] = frame.anchors
    if len(task.known.t) > (1 if frame.anchors is None else 3):  # others do not move the plane, but start its division
        tensors["points"] = torch.from_numpy(task.known.t)
    content = save_tensors(tensors)
    if (path / HEAD).exists():
        known = json.loads((path / HEAD).read_text(encoding="utf-8"))
        differing = [name for name, value in head.items() if known.get(name) != value]
        differing += ["plane"] if (path / TENSORS).read_bytes() != content else []
        if differing:
            cure = "give the same arguments to go on with it, or another folder"
            raise BadInput(f"folder: {path} holds tiles of another partition ({', '.join(differing)} differ); {cure}")
        return
    # A run that ended before it wrote its head may have left the tensors, whole or not.
    ours = (TENSORS, f".{TENSORS}", f".{HEAD}")
    if path.exists() and not (path.is_dir() and all(item.name.startswith(ours) for item in path.iterdir())):
        raise BadInput(f"folder: {path} is not an empty folder; give a new one")
    path.mkdir(parents=True, exist_ok=True)
    write_file(path / TENSORS, content)
    write_file(path / HEAD, (json.dumps(head, indent=1) + "\n").encode())


@dataclass(frozen=True)
class Entry:
    """A line about a tile."""

    file: str  # name of its file
    regions: int  # its cells
    area: float  # area of all of them
    box: list[float]  # their left, right, bottom and top
    crc32: int  # CRC-32 of the file's bytes
    path: list[list[int]]  # how it was made, see :data:`maxaffine._partition.planes.blocks.Path`


def write_tile(folder: Path, number: int, leaf: Leaf) -> Entry:
    """Write a tile and the line about it."""
    cells = leaf.cells
    arrays = {name: getattr(cells, name).astype(np.int32) for name in NARROW}
    arrays |= {"points": cells.points, "counts": cells.counts.astype(np.int32), "borders": leaf.borders}
    if leaf.values is not None:
        arrays["values"] = leaf.values
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    file = f"tile-{number:06}.safetensors"
    write_file(folder / file, content)
    box = np.stack([cells.points.min(0), cells.points.max(0)], 1).ravel().tolist()
    path = [list(turn) for turn in leaf.path]
    entry = Entry(file, len(cells.counts), float(cells.areas.sum()), box, checksum(content), path)
    add_line(folder, asdict(entry))
    return entry


def add_line(folder: Path, line: dict[str, Any]) -> None:
    """Add a line to the list of tiles."""
    with (folder / TILES).open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(folder: Path) -> tuple[list[Entry], bool, int]:
    """The tiles, whether they are all, and how many bytes of the list are whole."""
    path = folder / TILES
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    try:
        lines = [json.loads(line) for line in content[:whole].splitlines()]
        complete = bool(lines) and lines[-1] == COMPLETE
        return [Entry(**line) for line in (lines[:-1] if complete else lines)], complete, whole
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}; delete the folder and partition again") from error


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
        """The tile of each point (N, 2) and its cell within it, (N,) numbers each; -1 where there is no tile."""
        return self._deep(torch.as_tensor(t, dtype=torch.float64))[:2]

    def _deep(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tile and cell of each point, and how far inside it lies."""
        tile, cell = torch.full((len(t),), -1), torch.full((len(t),), -1)
        best = torch.full((len(t),), -np.inf, dtype=torch.float64)
        # A point on a border lies in a tile on either side: in the one in which it lies deeper.
        for number, entry in enumerate(self.entries):
            low, high = torch.tensor(entry.box, dtype=torch.float64).view(2, 2).T
            rows = torch.nonzero(((t >= low) & (t <= high)).all(1)).flatten()
            if len(rows):
                found, depth = self[number].locate_deep(t[rows])
                better = (found >= 0) & (depth > best[rows])
                rows, found, depth = rows[better], found[better], depth[better]
                tile[rows], cell[rows], best[rows] = number, found, depth
        return tile, cell, best

    def verify(self, model: Any = None, *, samples: int = 4096, seed: int = 0, raises: bool = True) -> PlaneReport:
        """As :meth:`PlanePartition.verify`, of the cells that hold random points; those in no tile count as missed."""
        t = random_points(Complex.polygon(self.corners), samples, seed)
        tile, cell, depth = self._deep(t)
        parts = []
        for number in torch.unique(tile[tile >= 0]).tolist():
            rows = tile == number
            parts.append(self[number].compare_at(model, t[rows], cell[rows], depth[rows], False, raises))
        lost = int((tile < 0).sum())
        names = ("regions", "thin", "repeated", "edgy", "missed", "misplaced")
        counts = {name: sum(getattr(part, name) for part in parts) for name in names}
        counts["missed"] += lost
        error = max((part.error for part in parts if part.error is not None), default=None)
        exact = not lost and all(part.exact for part in parts)
        report = PlaneReport(samples=samples, error=error, exact=exact, **counts)
        if raises and lost:
            raise PartitionError(f"{lost} points of the polygon lie in no tile", tuple(t[tile < 0][0].tolist()))
        return report

    def check(self) -> None:
        """Read all tiles and check each one's geometry, both sides of all their borders, and the total area."""
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
        """All tiles as one partition in memory, as :func:`maxaffine.partition.plane` gives it."""
        if not self.complete:
            raise DataError(f"{self.folder} is not complete; call stream_plane with the same arguments to go on")
        found = self._partition([self._leaf(entry) for entry in self.entries])
        found.check_geometry(self.corners)
        return found

    def _leaf(self, entry: Entry) -> Leaf:
        """A tile as it was written."""
        path = self.folder / entry.file
        try:
            content = path.read_bytes()
            if checksum(content) != entry.crc32:
                raise DataError(f"{path} is damaged: its checksum is not the one in {TILES}; partition again")
            arrays = load(content)
            wide = {name: arrays[name].astype(np.int64) for name in NARROW}
            cells = Complex(points=arrays["points"], starts=starts_of(arrays["counts"]), **wide)
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{path} could not be read: {error!r}; partition again") from error
        turns = tuple((part, vertices) for part, vertices in entry.path)
        return Leaf(cells, arrays["borders"], turns, arrays.get("values"), len(self.operators))

    def _partition(self, leaves: list[Leaf]) -> PlanePartition:
        """Tiles as one partition."""
        width, number, dtype = self.head["tolerance"], self.head["number"], getattr(torch, self.head["dtype"])
        cells, values, level = glue(leaves, width)
        return PlanePartition(self.frame, self.operators, cells, level, width, number, values, dtype)

    def __repr__(self) -> str:
        state = "" if self.complete else f" (not complete: {100 * self.area / self.polygon_area:.3g}% of the area)"
        return f"PlaneTiles: {self.regions} regions in {len(self)} tiles in {self.folder}{state}"
