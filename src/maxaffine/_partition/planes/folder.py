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

from maxaffine._partition.planes.blocks import Borders, Leaf, Turn
from maxaffine._partition.planes.complex import Complex, starts_of
from maxaffine.errors import DataError

HEAD, TENSORS, TILES = "plane.json", "plane.safetensors", "tiles.jsonl"
COMPLETE = {"complete": True}
NARROW = ("ends", "operator", "unit", "counts", "corners", "sides")  # kept as 32-bit integers


@dataclass(frozen=True)
class Entry:
    """A line about a tile.

    Attributes:
        file: Name of its file.
        regions: Its cells.
        area: Area of all of them.
        box: Their left, right, bottom and top.
        crc32: CRC-32 of the file's bytes.
        path: How it was made, a list for each turn.
    """

    file: str
    regions: int
    area: float
    box: list[float]
    crc32: int
    path: list[list[int]]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The path."""
        return tuple(Turn(*turn) for turn in self.path)


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all.

    Args:
        path: The file.
        content: Its bytes.

    Raises:
        DataError: If it cannot be written.
    """
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
    """Write a tile and the line about it.

    Args:
        folder: The folder.
        number: The tile's number.
        leaf: Its cells.

    Returns:
        The line.
    """
    cells = leaf.cells
    arrays = {
        "points": cells.points,
        "ends": cells.ends,
        "operator": cells.operator,
        "unit": cells.unit,
        "chain": cells.chain,
        "counts": cells.counts,
        "corners": cells.corners,
        "sides": cells.sides,
        "names": leaf.names,
        "border_names": leaf.borders.names,
        "border_ends": leaf.borders.ends,
    }
    if leaf.values is not None:
        arrays["values"] = leaf.values
    for name in NARROW:
        arrays[name] = arrays[name].astype(np.int32)
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    file = f"tile-{number:06}.safetensors"
    write_file(folder / file, content)
    low, high = cells.points.min(0), cells.points.max(0)
    box = [float(low[0]), float(high[0]), float(low[1]), float(high[1])]
    path = [[turn.part, turn.names, turn.chains, turn.vertices] for turn in leaf.path]
    entry = Entry(file, len(cells.counts), float(cells.areas.sum()), box, zlib.crc32(content), path)
    add_line(folder, asdict(entry))
    return entry


def add_line(folder: Path, line: dict[str, Any]) -> None:
    """Add a line to the list of tiles.

    Args:
        folder: The folder.
        line: What it says.
    """
    with (folder / TILES).open("ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(folder: Path) -> tuple[list[Entry], bool, int]:
    """The list of tiles.

    Args:
        folder: The folder.

    Returns:
        The tiles, whether they are all, and how many bytes of the list are whole.

    Raises:
        DataError: When a line within the list is damaged.
    """
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
    """Read a tile.

    Args:
        folder: The folder.
        entry: The line about it.
        level: Operators that have divided it.

    Returns:
        Its cells.

    Raises:
        DataError: When the file is absent or damaged.
    """
    path = folder / entry.file
    try:
        content = path.read_bytes()
        if zlib.crc32(content) != entry.crc32:
            raise DataError(f"{path} is damaged: its checksum is not the one in {TILES}; partition again")
        arrays = load(content)
        wide = {name: arrays[name].astype(np.int64) for name in NARROW}
        starts = starts_of(wide.pop("counts"))
        cells = Complex(points=arrays["points"], chain=arrays["chain"], starts=starts, **wide)
        borders = Borders(arrays["border_names"], arrays["border_ends"])
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path} could not be read: {error!r}; partition again") from error
    return Leaf(cells, arrays["names"], borders, entry.turns, arrays.get("values"), level)
