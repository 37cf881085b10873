"""Every region of a network on a plane, written to disk tile by tile."""

from __future__ import annotations

import json
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from maxaffine._capture import SplineNetwork
from maxaffine._partition.planes.blocks import Leaf
from maxaffine._partition.planes.checks import AREA, check_geometry
from maxaffine._partition.planes.folder import (
    COMPLETE,
    HEAD,
    TENSORS,
    TILES,
    add_line,
    read_lines,
    write_file,
    write_tile,
)
from maxaffine._partition.planes.task import MEMORY, TOLERANCE, Task, Watch, task
from maxaffine._partition.planes.tiles import FORMAT, VERSION, PlaneTiles
from maxaffine.errors import BadInput, PartitionError


def stream_plane(
    net: SplineNetwork,
    folder: str | PathLike[str],
    anchors: Any = None,
    *,
    origin: Any = None,
    basis: Any = None,
    points: Any = None,
    extent: Any = None,
    until: str | None = None,
    output: int | None = None,
    tolerance: float = TOLERANCE,
    memory: int = MEMORY,
    keep_values: bool | None = None,
    progress: bool | Watch | None = None,
) -> PlaneTiles:
    """Divide a polygon as :func:`plane` does, writing every finished block of cells to a folder as a tile.

    Memory stays bounded whatever the number of regions: one block is worked on, and others wait. A tile holds whole
    cells, so that nothing is cut at its borders; every tile's geometry is checked before it is written, and the total
    area after the last one. Ctrl-C or a crash leaves a readable folder, and the same call goes on after its last tile,
    once it has divided again what led to it.

    Args:
        net: The network.
        folder: Where the tiles go: a new or empty folder, or that of an earlier run with the same arguments.
        anchors: As of :func:`plane`, as all that follows.
        origin: See there.
        basis: See there.
        points: See there.
        extent: See there.
        until: See there.
        output: See there.
        tolerance: See there.
        memory: See there; a tile takes about as much.
        keep_values: See there.
        progress: See there.

    Returns:
        The tiles, read from disk when they are asked for. After Ctrl-C they are not ``complete``, with a warning.

    Raises:
        BadInput: As :func:`plane`, and for a folder that holds something else.
        NotPiecewiseAffine: As :func:`plane`.
        PartitionError: As :func:`plane`.
        DataError: When a file cannot be written, or is damaged.

    Example:
        >>> import tempfile, torch
        >>> import maxaffine as ma
        >>> net = ma.capture(torch.nn.ReLU(), torch.zeros(1, 2))
        >>> plane = {"origin": torch.zeros(1, 2), "basis": torch.eye(2)}
        >>> tiles = ma.partition.stream_plane(net, tempfile.mkdtemp(), **plane)
        >>> tiles.regions, len(tiles), tiles[0].areas.tolist()
        (4, 1, [1.0, 1.0, 1.0, 1.0])

    Source: see :func:`plane`.
    """
    path = Path(folder).expanduser()
    asked = task(net, anchors, origin, basis, points, extent, until, output, tolerance, memory, keep_values)
    _prepare(path, asked, net.fingerprint)
    entries, complete, whole = read_lines(path)
    if not complete:
        with (path / TILES).open("ab") as lines:
            lines.truncate(whole)
        count = len(entries)
        area = float(sum(entry.area for entry in entries))

        def done(leaf: Leaf) -> None:
            nonlocal count
            check_geometry(leaf.cells, asked.tolerance)
            write_tile(path, count, leaf)
            count += 1

        rest = asked.run(done, progress, entries[-1].turns if entries else (), area)
        if rest:
            warnings.warn(f"interrupted: the same call goes on after the {count} tiles in {path}", stacklevel=2)
        else:
            _finish(PlaneTiles.open(net, path))
    return PlaneTiles.open(net, path)


def _prepare(path: Path, asked: Task, fingerprint: str) -> None:
    """Write what is partitioned, or compare it with what the folder holds."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": fingerprint,
        "number": asked.number,
        "operators": list(asked.operators),
        "dtype": str(asked.dtype).removeprefix("torch."),
        "tolerance": asked.tolerance,
        "memory": asked.memory,
        "keep_values": asked.keep_values,
        "corners": asked.corners.tolist(),
        "inputs": len(asked.frame.origin),
    }
    frame = asked.frame
    tensors = {f"origin_{n}": item.contiguous() for n, item in enumerate(frame.origin)}
    tensors |= {f"basis_{n}": item.contiguous() for n, item in enumerate(frame.basis)}
    if frame.anchors is not None:
        tensors["anchors"] = frame.anchors
    if asked.further:  # they do not move the plane, but its division starts from them
        tensors["points"] = torch.from_numpy(asked.known.t)
    content = save(tensors)
    if (path / HEAD).exists():
        known = json.loads((path / HEAD).read_text(encoding="utf-8"))
        differing = [name for name, value in head.items() if known.get(name) != value]
        differing += ["plane"] if (path / TENSORS).read_bytes() != content else []
        if differing:
            cure = "give the same arguments to go on with it, or another folder"
            raise BadInput(f"folder: {path} holds tiles of another partition ({', '.join(differing)} differ); {cure}")
        return
    if path.exists() and not path.is_dir() or path.is_dir() and any(not _ours(item) for item in path.iterdir()):
        raise BadInput(f"folder: {path} is not an empty folder; give a new one")
    path.mkdir(parents=True, exist_ok=True)
    write_file(path / TENSORS, content)
    write_file(path / HEAD, (json.dumps(head, indent=1) + "\n").encode())


def _ours(item: Path) -> bool:
    """Whether a file may be what a run left that ended before it wrote its head."""
    return item.name in (TENSORS, f".{TENSORS}.tmp", f".{HEAD}.tmp")


def _finish(tiles: PlaneTiles) -> None:
    """Say that nothing is missing, once the areas add up."""
    whole = tiles.polygon_area
    if abs(tiles.area - whole) > AREA * whole:
        raise PartitionError(f"the tiles have area {tiles.area}, the polygon {whole}")
    add_line(tiles.folder, COMPLETE)
