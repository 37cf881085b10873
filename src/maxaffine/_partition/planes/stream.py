"""Every region of a network on a plane, written to disk tile by tile.

The division is the same as in memory; what differs is where a finished block goes. It becomes a file at once, so that
a plane of any number of regions needs the memory of one block. The folder is also the record of what is done: the same
call goes on after its last tile, since the line about a tile says on which way it was reached.
"""

from __future__ import annotations

import json
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from maxaffine._capture import SplineNetwork
from maxaffine._partition.planes.blocks import Leaf, Watch, divide_plane
from maxaffine._partition.planes.checks import AREA, check_geometry
from maxaffine._partition.planes.folder import (
    COMPLETE,
    FORMAT,
    HEAD,
    TENSORS,
    TILES,
    VERSION,
    add_line,
    read_lines,
    write_file,
    write_tile,
)
from maxaffine._partition.planes.task import Task, new_task
from maxaffine._partition.planes.tiles import PlaneTiles
from maxaffine.errors import BadInput, PartitionError


def stream_plane(
    net: SplineNetwork,
    folder: str | PathLike[str],
    anchors: Any = None,
    *,
    progress: bool | Watch | None = None,
    **options: Any,
) -> PlaneTiles:
    """Divide a polygon as :func:`plane` does, writing every finished block of cells to a folder as a tile.

    Memory stays bounded whatever the number of regions: one block is worked on, and others wait. A tile holds whole
    cells, so that nothing is cut at its borders; every tile's geometry is checked before it is written, and the total
    area after the last one. Ctrl-C or a crash leaves a readable folder, and the same call goes on after its last tile,
    once it has divided again what led to it.

    Args:
        net: The network.
        folder: Where the tiles go: a new or empty folder, or that of an earlier run with the same arguments.
        anchors: As of :func:`plane`.
        progress: See there.
        options: All other arguments of :func:`plane`; ``memory`` is about what a tile takes.

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
    task = new_task(net, anchors, **options)
    _prepare(path, task, net.fingerprint)
    entries, complete, whole = read_lines(path)
    if not complete:
        with (path / TILES).open("ab") as lines:
            lines.truncate(whole)
        count = len(entries)

        def write(leaf: Leaf) -> None:
            nonlocal count
            check_geometry(leaf.cells, task.tolerance)
            write_tile(path, count, leaf)
            count += 1

        area = float(sum(entry.area for entry in entries))
        rest = divide_plane(task, write, progress, entries[-1].turns if entries else None, area)
        if rest:
            warnings.warn(f"interrupted: the same call goes on after the {count} tiles in {path}", stacklevel=2)
        else:
            _finish(PlaneTiles.open(net, path))
    return PlaneTiles.open(net, path)


def _prepare(path: Path, task: Task, fingerprint: str) -> None:
    """Write what is partitioned, or compare it with what the folder holds."""
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
    if task.further:  # they do not move the plane, but its division starts from them
        tensors["points"] = torch.from_numpy(task.known.t)
    content = save(tensors)
    if (path / HEAD).exists():
        known = json.loads((path / HEAD).read_text(encoding="utf-8"))
        differing = [name for name, value in head.items() if known.get(name) != value]
        differing += ["plane"] if (path / TENSORS).read_bytes() != content else []
        if differing:
            cure = "give the same arguments to go on with it, or another folder"
            raise BadInput(f"folder: {path} holds tiles of another partition ({', '.join(differing)} differ); {cure}")
        return
    # A run that ended before it wrote its head may have left these.
    ours = (TENSORS, f".{TENSORS}.tmp", f".{HEAD}.tmp")
    if path.exists() and not path.is_dir() or path.is_dir() and any(item.name not in ours for item in path.iterdir()):
        raise BadInput(f"folder: {path} is not an empty folder; give a new one")
    path.mkdir(parents=True, exist_ok=True)
    write_file(path / TENSORS, content)
    write_file(path / HEAD, (json.dumps(head, indent=1) + "\n").encode())


def _finish(tiles: PlaneTiles) -> None:
    """Say that nothing is missing, once the areas add up."""
    whole = tiles.polygon_area
    if abs(tiles.area - whole) > AREA * whole:
        raise PartitionError(f"the tiles have area {tiles.area}, the polygon {whole}")
    add_line(tiles.folder, COMPLETE)
