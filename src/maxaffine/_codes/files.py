"""Codes on disk: the same content as safetensors or npz, written completely or not at all.

A file holds one array of bit planes per operator and two strings: a JSON header (format, version, batch, the operators'
names, pieces and units, free metadata) and a CRC-32 over the header and all the planes, so that damage never passes as
codes.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from maxaffine._codes.packed import PackedCodes
from maxaffine._files import checksum, replacing
from maxaffine.errors import BadInput, DataError

_FORMAT, _VERSION = "maxaffine.codes", 1
_HEADER, _CHECKSUM = "header", "crc32"
_CURE = "compute the codes again and write them with Codes.save"

Strings = dict[str, str]
Arrays = dict[str, np.ndarray]


def write(
    path: str | os.PathLike[str], operators: Mapping[str, PackedCodes], batch: int, metadata: Mapping[str, str]
) -> None:
    """Write packed codes to a file, completely or not at all; its suffix says which kind."""
    path = Path(path)
    save, _ = _format(path)
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "batch": batch,
        "operators": [{"name": n, "pieces": codes.pieces, "units": codes.units} for n, codes in operators.items()],
        "metadata": dict(metadata),
    }
    # Numbered keys, because operator names are free text and npz members are file names.
    arrays = {_key(i): np.ascontiguousarray(codes.packed.numpy()) for i, codes in enumerate(operators.values())}
    text = json.dumps(header)
    try:
        with replacing(path) as temporary:
            save(temporary, {_HEADER: text, _CHECKSUM: _checksum(text, arrays)}, arrays)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} could not be written: {error}; check folder, permissions and free space") from error


def read(path: str | os.PathLike[str]) -> tuple[dict[str, PackedCodes], int, Strings]:
    """Read what `write` wrote: packed codes by operator name, the number of inputs and the metadata."""
    path = Path(path)
    _, load = _format(path)
    try:
        strings, arrays = load(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the path, or write it with Codes.save") from error
    except OSError as error:
        raise DataError(f"{path} could not be read: {error}; check that it is a file and its permissions") from error
    except Exception as error:  # the parsers raise about a dozen kinds on damaged bytes
        raise DataError(f"{path} is damaged or not a {path.suffix} file: {error}; {_CURE}") from error
    text = strings.get(_HEADER)
    if text is None or _CHECKSUM not in strings:
        raise DataError(f"{path} holds no codes: it was written by another program; {_CURE}")
    if strings[_CHECKSUM] != _checksum(text, arrays):
        raise DataError(f"{path} is damaged: its checksum does not match its content; {_CURE}")
    try:
        header: dict[str, Any] = json.loads(text)
        if header["format"] != _FORMAT:
            raise DataError(f"{path} holds {header['format']!r}, not {_FORMAT!r}; {_CURE}")
        if header["version"] > _VERSION:
            raise DataError(f"{path} has format version {header['version']}, newer than {_VERSION}; upgrade maxaffine")
        operators = {
            entry["name"]: PackedCodes(entry["pieces"], tuple(entry["units"]), torch.from_numpy(arrays[_key(i)]))
            for i, entry in enumerate(header["operators"])
        }
        # The checksum does not cover the shape of an array without bytes.
        if strays := [name for name, codes in operators.items() if len(codes) != header["batch"]]:
            raise ValueError(f"{strays} hold another number of inputs than {header['batch']}")
        return operators, header["batch"], header["metadata"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} holds no valid codes: {error!r}; {_CURE}") from error


def _key(index: int) -> str:
    return f"operator_{index}"


def _checksum(text: str, arrays: Arrays) -> str:
    # By name, for a file may hand its arrays back in an order of its own.
    return f"{checksum(text.encode(), *(arrays[key].reshape(-1).data for key in sorted(arrays))):08x}"


def _save_safetensors(path: Path, strings: Strings, arrays: Arrays) -> None:
    save_file(arrays, path, metadata=strings)


def _load_safetensors(path: Path) -> tuple[Strings, Arrays]:
    with safe_open(path, framework="pt") as file:
        # A copy, because the tensors are views of the mapped file and would follow later changes to it.
        arrays = {key: file.get_tensor(key).clone().numpy() for key in file.keys()}
        return file.metadata() or {}, arrays


def _save_npz(path: Path, strings: Strings, arrays: Arrays) -> None:
    # Given a path, numpy would add a suffix to the temporary name.
    with path.open("wb") as file:
        members: Arrays = {key: np.array(text) for key, text in strings.items()} | arrays
        np.savez(file, **members)  # pyright: ignore[reportArgumentType] -- no key is called allow_pickle


def _load_npz(path: Path) -> tuple[Strings, Arrays]:
    # Given a path, numpy leaves the file open when the archive is damaged.
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        strings = {key: str(archive[key]) for key in (_HEADER, _CHECKSUM) if key in archive}
        return strings, {key: archive[key] for key in archive.files if key not in strings}


_Format = tuple[Callable[[Path, Strings, Arrays], None], Callable[[Path], tuple[Strings, Arrays]]]
_BY_SUFFIX: dict[str, _Format] = {
    ".safetensors": (_save_safetensors, _load_safetensors),
    ".npz": (_save_npz, _load_npz),
}


def _format(path: Path) -> _Format:
    if path.suffix not in _BY_SUFFIX:
        raise BadInput(f"path: {str(path)!r} ends in {path.suffix!r}; end it in one of {list(_BY_SUFFIX)}")
    return _BY_SUFFIX[path.suffix]
