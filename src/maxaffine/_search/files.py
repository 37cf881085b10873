"""An index as one file, in the layout of safetensors, so that its rows can be searched where they lie on disk.

| tensor | content |
| --- | --- |
| ``ids`` | (N,) int64 |
| ``rows_0``, ``rows_1``, ... | (N, width) uint8, one per operator; every one begins at a multiple of 8 bytes |
| ``places``, ``centroids``, ``list_...`` | what approximate search needs, where the index is prepared for it |

The metadata hold a JSON description (format, version, operators, free strings, approximate search and the CRC-32 of its
tensors) and a CRC-32 over the whole file, as it is with zeros in its place. safetensors' own writer wants all of it in
memory, so the file is written here in blocks.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from maxaffine._codes import RowLayout, load_faiss
from maxaffine._files import replacing
from maxaffine._progress import progress_bar
from maxaffine._search.lists import Lists
from maxaffine._search.nearest import Part
from maxaffine.errors import BadInput, DataError

SUFFIX = ".codeindex"
_FORMAT, _VERSION = "maxaffine.index", 1
_BLOCK = 1 << 24
_CURE = "build the index again and write it with CodeIndex.save"
_UNSUMMED = "0" * 8
_ITEM_BYTES = {"U8": 1, "I64": 8}


def write_index(
    path: str | os.PathLike[str],
    layouts: Sequence[RowLayout],
    parts: Sequence[Part],
    metadata: Mapping[str, str],
    lists: Lists | None,
    progress: bool | None,
) -> None:
    """Write an index, completely or not at all.

    Args:
        path: Ends in ``.codeindex``.
        layouts: Its operators.
        parts: Its rows.
        metadata: Free strings.
        lists: What it is prepared with for approximate search, or None.
        progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

    Raises:
        BadInput: If the path ends otherwise.
        DataError: If it cannot be written; what was there before is untouched.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise BadInput(f"path {str(path)!r} ends in {path.suffix!r}; end it in {SUFFIX}")
    count = sum(part.alive for part in parts)
    operators = [{"name": item.name, "pieces": item.pieces, "units": item.units} for item in layouts]
    arrays = {} if lists is None else lists.arrays()
    description = {"format": _FORMAT, "version": _VERSION, "operators": operators, "metadata": dict(metadata)}
    if lists is not None:
        description["approximate"] = lists.description() | {"crc32": _sum_of(arrays)}
    header: dict[str, Any] = {"__metadata__": {"index": json.dumps(description), "crc32": _UNSUMMED}}
    tensors = [("ids", "I64", [count]), *((f"rows_{i}", "U8", [count, x.width]) for i, x in enumerate(layouts))]
    tensors += [(name, "U8" if array.dtype == np.uint8 else "I64", list(array.shape)) for name, array in arrays.items()]
    start = 0
    for name, dtype, shape in tensors:
        size = prod(shape) * _ITEM_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    bar = progress_bar(progress, "writing index", unit="B", unit_scale=True, total=start)
    try:
        with bar, replacing(path) as temporary, temporary.open("r+b") as file:
            _write(file, header, chain(_blocks(parts, len(layouts)), arrays.values()), bar)
    except OSError as error:
        raise DataError(f"{path} could not be written: {error}; check folder, permissions and free space") from error


def _blocks(parts: Sequence[Part], operators: int) -> Iterator[np.ndarray]:
    """Each tensor's bytes in turn, without removed rows."""
    for i in range(-1, operators):
        for part in parts:
            array = part.ids if i < 0 else part.rows[i]
            step = max(1, _BLOCK // max(1, array.nbytes // max(1, len(array))))
            for start in range(0, len(array), step):
                block = array[start : start + step]
                yield np.ascontiguousarray(block if part.kept is None else block[part.kept[start : start + step]])


def _write(file: BinaryIO, header: dict[str, Any], blocks: Iterator[np.ndarray], bar: tqdm) -> None:
    unsummed = _header_bytes(header)
    checksum = zlib.crc32(unsummed)
    file.write(unsummed)
    for block in blocks:
        file.write(block.data)
        checksum = zlib.crc32(block.data, checksum)
        bar.update(block.nbytes)
    header["__metadata__"]["crc32"] = f"{checksum:08x}"
    file.seek(0)
    file.write(_header_bytes(header))


def _header_bytes(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True, eq=False)
class Read:
    """What a file holds.

    Args:
        layouts: The operators.
        part: All rows.
        metadata: Free strings.
        lists: What approximate search needs; None where the index was not prepared for it, or faiss is absent.
    """

    layouts: tuple[RowLayout, ...]
    part: Part
    metadata: dict[str, str]
    lists: Lists | None


def read_index(path: str | os.PathLike[str], memory_map: bool) -> Read:
    """Read what `write_index` wrote.

    Args:
        path: The file.
        memory_map: Map the file instead of reading it; its checksum is not compared then, but that of the tensors for
            approximate search, which are read.

    Returns:
        Its content.

    Raises:
        DataError: If the file is absent, damaged or was written by something else.
    """
    path = Path(path)
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r") if memory_map else np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path, or write it with CodeIndex.save") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} could not be read: {error}; check that it is a file and its permissions") from error
    try:
        return _parsed(np.asarray(raw), memory_map)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{path} is damaged or no index: {error}; {_CURE}") from error


def _parsed(raw: np.ndarray, memory_map: bool) -> Read:
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if length > len(raw) - 8:
        raise ValueError("it ends within its header")
    head = raw[: 8 + length].tobytes()
    header = json.loads(head[8:])
    checksum = header["__metadata__"]["crc32"]
    unsummed = head.replace(checksum.encode(), _UNSUMMED.encode(), 1)
    description = json.loads(header["__metadata__"]["index"])
    if description["format"] != _FORMAT:
        raise ValueError(f"it holds {description['format']!r}, not {_FORMAT!r}")
    if description["version"] > _VERSION:
        raise ValueError(f"format version {description['version']} is newer than {_VERSION}, upgrade maxaffine")
    data = raw[8 + length :]
    names = ["ids", *(f"rows_{i}" for i in range(len(description["operators"])))]
    if len(data) != max(item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"):
        raise ValueError("its length is not what its header says")
    if not memory_map and f"{zlib.crc32(data.data, zlib.crc32(unsummed)):08x}" != checksum:
        raise ValueError("its checksum does not match its content")
    layouts = tuple(RowLayout(x["name"], x["pieces"], tuple(x["units"])) for x in description["operators"])
    (count,) = header["ids"]["shape"]
    widths = [np.dtype(np.int64).itemsize, *(layout.width for layout in layouts)]
    # A tensor of another size than its operator's units need does not take this shape.
    ids, *rows = (
        data[slice(*header[name]["data_offsets"])].reshape(count, width)
        for name, width in zip(names, widths, strict=True)
    )
    lists = _lists(header, data, description["approximate"]) if "approximate" in description else None
    part = Part(ids.view(np.int64).reshape(count), tuple(rows))
    return Read(layouts, part, dict(description["metadata"]), lists)


def _lists(header: dict[str, Any], data: np.ndarray, description: dict[str, Any]) -> Lists | None:
    arrays = {}
    for name in Lists.ARRAYS:
        item = header[name]
        # A copy: these are searched all at once, and few beside the rows.
        content = np.array(data[slice(*item["data_offsets"])])
        arrays[name] = (content.view(np.int64) if item["dtype"] == "I64" else content).reshape(item["shape"])
    if _sum_of(arrays) != description["crc32"]:
        raise ValueError("the checksum of its approximate search does not match")
    faiss = load_faiss()
    return None if faiss is None else Lists.read(faiss, description, arrays)


def _sum_of(arrays: Mapping[str, np.ndarray]) -> str:
    checksum = 0
    for array in arrays.values():
        checksum = zlib.crc32(array.reshape(-1).data, checksum)
    return f"{checksum:08x}"
