"""A folder with a partition of a plane in tiles: what its files hold, and how they are written and read.

``plane.json`` and ``plane.safetensors`` say what is partitioned. Every line of ``tiles.jsonl`` names a finished tile,
a safetensors file with a CRC-32; the line is written after the file, so that what is listed is whole. A last line
says that nothing is missing. A line that a crash cut short is left out by readers, and written anew by the next run.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from maxaffine._partition.planes.blocks import Leaf, Turn
from maxaffine._partition.planes.complex import Complex, starts_of
from maxaffine.errors import DataError

FORMAT, VERSION = "maxaffine.plane", 2
HEAD, TENSORS, TILES = "plane.json", "plane.safetensors", "tiles.jsonl"
COMPLETE = {"complete": True}
NARROW = ("ends", "operator", "unit", "chain", "corners", "sides")  # kept as 32-bit integers


@dataclass(frozen=True)
class Entry:
    """A line about a tile."""

    file: str  # name of its file
    regions: int  # its cells
    area: float  # area of all of them
    box: list[float]  # their left, right, bottom and top
    crc32: int  # CRC-32 of the file's bytes
    path: list[list[int]]  # how it was made, a list for each turn

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The path."""
        return tuple(Turn(*turn) for turn in self.path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path} could not be written: {error}; check folder, permissions and free space") from error
    finally:
        temporary.unlink(missing_ok=True)


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
    low, high = cells.points.min(0), cells.points.max(0)
    box = [float(low[0]), float(high[0]), float(low[1]), float(high[1])]
    path = [list(turn) for turn in leaf.path]
    entry = Entry(file, len(cells.counts), float(cells.areas.sum()), box, zlib.crc32(content), path)
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


def read_tile(folder: Path, entry: Entry, level: int) -> Leaf:
    """Read a tile, which so many operators have divided."""
    path = folder / entry.file
    try:
        content = path.read_bytes()
        if zlib.crc32(content) != entry.crc32:
            raise DataError(f"{path} is damaged: its checksum is not the one in {TILES}; partition again")
        arrays = load(content)
        wide = {name: arrays[name].astype(np.int64) for name in NARROW}
        cells = Complex(points=arrays["points"], starts=starts_of(arrays["counts"]), **wide)
        return Leaf(cells, arrays["borders"], entry.turns, arrays.get("values"), level)
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path} could not be read: {error!r}; partition again") from error
