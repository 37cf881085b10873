"""The IDX format: MNIST's own, one array per file, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np

from ..errors import DataError

_ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MEMBER = re.compile(r"(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 22
_Stream = BufferedReader | gzip.GzipFile


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file: two zero bytes, the element type, the number of dimensions, the dimensions, the elements.

    All numbers are big-endian; gzip is recognized by its first bytes, not by the file's name.

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
    try:
        with _opened(Path(path)) as stream:
            element, shape = _header(stream, path)
            expected = math.prod(shape) * element.itemsize
            # One byte more shows whether it is longer; not all of it, for what is no IDX file may be of any size.
            content = _up_to(stream, expected + 1)
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


@contextmanager
def _opened(path: Path) -> Iterator[_Stream]:
    with path.open("rb") as stream:
        compressed = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        stream.seek(0)
        if not compressed:
            yield stream
            return
        with gzip.open(stream, "rb") as content:
            yield content


def _header(stream: _Stream, path: str | os.PathLike[str]) -> tuple[np.dtype, tuple[int, ...]]:
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


def _up_to(stream: _Stream, count: int) -> bytearray:
    """As many bytes, or all there are; in chunks, for a header may promise more than there is memory."""
    content = bytearray()
    while len(content) < count and (chunk := stream.read(min(_CHUNK, count - len(content)))):
        content += chunk
    return content
