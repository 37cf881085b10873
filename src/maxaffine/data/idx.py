"""The IDX format: MNIST's own, one array per file, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError

_ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MEMBER = re.compile(r"(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file: two zero bytes, the element type, the number of dimensions, the dimensions, the elements.

    All numbers are big-endian; gzip is recognised by its first bytes, not by the file's name.

    Args:
        path: The file.

    Returns:
        Array of the file's shape and element type, in the machine's byte order.

    Raises:
        DataError: The file is unreadable, no IDX file, truncated, or longer than its header says.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "pair.idx")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    ...     read_idx(path)
    array([7, 9], dtype=uint8)

    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database, section "File formats".
    """
    content = _content(Path(path))
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _ELEMENTS or not 1 <= content[3] <= 8:
        raise DataError(
            f"{path}: not an IDX file (it begins with {content[:4].hex(' ') or 'nothing'}, not with 00 00, an element "
            "type and a number of dimensions); known files are IDX (plain or .gz), .npz and .npy"
        )
    element, header = np.dtype(_ELEMENTS[content[2]]), 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"{path}: truncated inside its {header}-byte header; copy or download it again")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    expected, found = math.prod(shape) * element.itemsize, len(content) - header
    if found != expected or expected == 0:
        problem = "truncated" if found < expected else "longer than its header says" if expected else "empty"
        raise DataError(
            f"{path}: {problem}; the header says {shape} of {element.itemsize} bytes = {expected} bytes, the file "
            f"holds {found}; copy or download it again"
        )
    return np.frombuffer(content, element, offset=header).reshape(shape).astype(element.newbyteorder("="))


def members(folder: Path) -> dict[tuple[str, str], Path]:
    """Find the files of an MNIST-like folder by their usual names, e.g. ``train-images-idx3-ubyte.gz``.

    Args:
        folder: Where to look; subfolders are not searched.

    Returns:
        (part, what) -> file, with part ``train`` or ``test`` and what ``images`` or ``labels``; the plain file is
        preferred to the compressed one.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.iterdir()):
        if match := _MEMBER.fullmatch(path.name):
            part = "train" if match["part"] == "train" else "test"
            found.setdefault((part, match["what"]), path)
    return found


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: unreadable ({error}); check its permissions, or copy or download it again") from error
