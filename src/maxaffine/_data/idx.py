"""The IDX format: MNIST's own, one array per file, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from ..errors import DataError

_ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MEMBER = re.compile(r"(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")
_CHUNK = 1 << 22


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file: two zero bytes, the element type, the number of dimensions, the dimensions, the elements."""
    # All numbers are big-endian: Y. LeCun, C. Cortes, C. Burges, The MNIST database, section "File formats".
    try:
        with _open(Path(path)) as stream:
            element, shape = _header(stream, path)
            expected = math.prod(shape) * element.itemsize
            # One byte more shows whether it is longer; not all of it, for any file may be given, of any size. In
            # chunks, for a header may promise more than there is memory.
            content = bytearray()
            while chunk := stream.read(min(_CHUNK, expected + 1 - len(content))):
                content += chunk
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: unreadable ({error}); check its permissions, or copy or download it again") from error
    found = len(content)
    if found != expected or expected == 0:
        problem = "truncated" if found < expected else "longer than its header says" if expected else "empty"
        raise DataError(
            f"{path}: {problem}; the header says {shape} of {element.itemsize} bytes = {expected} bytes, the file "
            f"holds {'more' if found > expected else found}; copy or download it again"
        )
    return np.frombuffer(content, element).reshape(shape).astype(element.newbyteorder("="))


def members(folder: Path) -> dict[tuple[str, str], Path]:
    """The files of an MNIST-like folder by part (train, test) and what they hold (images, labels); plain before .gz."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        if match := _MEMBER.fullmatch(path.name):
            part = "train" if match["part"] == "train" else "test"
            found.setdefault((part, match["what"]), path)
    return found


def _open(path: Path) -> BufferedIOBase:
    # gzip is told by its first bytes: a file's name may have lost its suffix.
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _header(stream: BufferedIOBase, path: str | os.PathLike[str]) -> tuple[np.dtype, tuple[int, ...]]:
    first = stream.read(4)
    if len(first) < 4 or first[:2] != b"\0\0" or first[2] not in _ELEMENTS or not 1 <= first[3] <= 8:
        raise DataError(
            f"{path}: not an IDX file (it begins with {first.hex(' ') or 'nothing'}, not with 00 00, an element "
            "type and a number of dimensions); known files are IDX (plain or .gz), .npz and .npy"
        )
    sizes = stream.read(4 * first[3])
    if len(sizes) < 4 * first[3]:
        raise DataError(f"{path}: truncated inside its {4 + 4 * first[3]}-byte header; copy or download it again")
    return np.dtype(_ELEMENTS[first[2]]), struct.unpack(f">{first[3]}I", sizes)
