"""An index on disk: a folder of .npy files, so that its rows can be searched where they lie.

    index.json            what it is: operators, free strings, and size and CRC-32 of every array's file
    <number>/ids.npy      (N,) int64
    <number>/rows_0.npy   (N, width) uint8, one per operator
    <number>/places.npy, <number>/lists.npy   what approximate search needs, where the index is prepared for it

A new index is written under a number of its own. It takes the place of the one before at the moment when ``index.json``
is replaced by the one that names it, so that at any moment the folder holds one whole index.
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from tqdm import tqdm

from maxaffine._chunks import slices
from maxaffine._codes import RowLayout, load_faiss
from maxaffine._files import checksum, replacing
from maxaffine._progress import progress_bar
from maxaffine._search.approximate import Lists
from maxaffine._search.nearest import Part
from maxaffine.errors import BadInput, DataError

SUFFIX = ".codeindex"
_INDEX = "index.json"
_FORMAT, _VERSION = "maxaffine.index", 2
_BLOCK = 1 << 24
_CURE = "build the index again and write it with CodeIndex.save"


# What an index consists of: no lists where it is not prepared for approximate search, or faiss is absent.
Content = tuple[tuple[RowLayout, ...], list[Part], dict[str, str], Lists | None]


def write_index(path: str | os.PathLike[str], content: Content, progress: bool | None) -> None:
    """Write an index, completely or not at all: what was there before stays until all of it is on disk."""
    path = Path(path)
    if path.suffix != SUFFIX:
        raise BadInput(f"path: {str(path)!r} ends in {path.suffix!r}; end it in {SUFFIX}")
    layouts, parts, metadata, lists = content
    words, arrays = (None, {}) if lists is None else lists.state()
    before, folder = _current(path), path / uuid4().hex
    files: dict[str, Sequence[np.ndarray]] = {"ids": [part.ids for part in parts] or [np.empty(0, np.int64)]}
    for i, layout in enumerate(layouts):
        files[f"rows_{i}"] = [part.rows[i] for part in parts] or [np.empty((0, layout.width), np.uint8)]
    kept = [part.kept for part in parts] or [None]
    total = sum(array.nbytes for pieces in files.values() for array in pieces)
    try:
        path.mkdir(exist_ok=True)
        folder.mkdir()
        with progress_bar(progress, "writing index", unit="B", unit_scale=True, total=total) as bar:
            sums = {name: _write(folder / f"{name}.npy", pieces, kept, bar) for name, pieces in files.items()}
            sums |= {name: _write(folder / f"{name}.npy", [array], [None], bar) for name, array in arrays.items()}
        description = {
            "format": _FORMAT,
            "version": _VERSION,
            "folder": folder.name,
            "operators": [asdict(layout) for layout in layouts],
            "metadata": metadata,
            "files": sums,
            "approximate": words,
        }
        text = json.dumps({"crc32": _sum(json.dumps(description).encode()), "index": description})
        # From this moment on the new folder is the index.
        with replacing(path / _INDEX) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} could not be written: {error}; check folder, permissions and free space") from error
    finally:
        for name in {before, folder.name} - {_current(path), None}:
            shutil.rmtree(path / name, ignore_errors=True)
        # Only an empty folder goes: one that was made for an index that was not written.
        with suppress(OSError):
            path.rmdir()


def _write(path: Path, pieces: Sequence[np.ndarray], kept: Sequence[np.ndarray | None], bar: tqdm) -> tuple[int, str]:
    """Write the kept rows of some arrays as one, and return the size and the checksum of its file."""
    # Block by block, for the rows may be more than memory holds. numpy's own writer wants the whole array, and writing
    # to a memory map ends the process where the disk is full.
    count = sum(len(array) if mask is None else int(mask.sum()) for array, mask in zip(pieces, kept, strict=True))
    first = pieces[0]
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (count, *first.shape[1:])}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for array, mask in zip(pieces, kept, strict=True):
            for run in slices(len(array), _BLOCK // max(1, first[:1].nbytes)):
                block = array[run] if mask is None else array[run][mask[run]]
                file.write(np.ascontiguousarray(block).data)
                bar.update(block.nbytes)
        file.flush()
        os.fsync(file.fileno())
    return path.stat().st_size, _sum(np.memmap(path, np.uint8, "r"))


def read_index(path: str | os.PathLike[str], memory_map: bool) -> Content:
    """Read what `write_index` wrote; with a memory map the rows stay on disk, and only their size is compared."""
    path = Path(path)
    try:
        text = (path / _INDEX).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path} holds no index; check the path, or write one with CodeIndex.save") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} could not be read: {error}; check that it is an index and its permissions") from error
    try:
        return _parse(path, text, memory_map)
    except Exception as error:  # numpy's reader and faiss raise many kinds on damaged bytes
        raise DataError(f"{path} is damaged, or is not an index: {error!r}; {_CURE}") from error


def _parse(path: Path, text: str, memory_map: bool) -> Content:
    content = json.loads(text)
    description = content["index"]
    if description["format"] != _FORMAT:
        raise ValueError(f"it holds {description['format']!r}, not {_FORMAT!r}")
    if description["version"] > _VERSION:
        raise ValueError(f"format version {description['version']} is newer than {_VERSION}, upgrade maxaffine")
    if content["crc32"] != _sum(json.dumps(description).encode()):
        raise ValueError(f"the checksum of {_INDEX} does not match its content")
    arrays = {}
    for name, (size, total) in description["files"].items():
        file, mapped = path / description["folder"] / f"{name}.npy", memory_map and name.startswith(("ids", "rows"))
        if file.stat().st_size != size or not (mapped or _sum(np.memmap(file, np.uint8, "r")) == total):
            raise ValueError(f"{file.name} is not as it was written")
        arrays[name] = np.asarray(np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False))
    layouts = tuple(RowLayout(x["name"], x["pieces"], tuple(x["units"])) for x in description["operators"])
    part = Part(arrays["ids"], tuple(arrays[f"rows_{i}"] for i in range(len(layouts))))
    if any(rows.shape != (len(part), layout.width) for rows, layout in zip(part.rows, layouts, strict=True)):
        raise ValueError("the rows have another shape than the operators' units need")
    words, faiss = description["approximate"], load_faiss()
    lists = None if faiss is None or words is None else Lists.restore(faiss, words, arrays)
    return layouts, [part] if len(part) else [], description["metadata"], lists


def _current(path: Path) -> str | None:
    """Which index of a folder is the one that counts, if any."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        name = json.loads((path / _INDEX).read_text(encoding="utf-8"))["index"]["folder"]
        # What it names is removed later: nothing but what was written here may be.
        return name if re.fullmatch("[0-9a-f]{32}", name) else None
    return None


def _sum(content: Any) -> str:
    return f"{checksum(content):08x}"
