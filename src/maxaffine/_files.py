"""Files that hold either what they held before or all that is new, and the sum by which damage is noticed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4


def beside(path: Path) -> Path:
    """A new name in the folder of a file, for what is to take the file's place."""
    return path.with_name(f".{path.name}.{uuid4().hex}.tmp")


def checksum(*parts: Any) -> int:
    """The CRC-32 of some bytes, part after part.

    Args:
        parts: Bytes, or other buffers such as C-contiguous arrays.

    Returns:
        The sum, below 2^32.

    >>> checksum(b"cut", b"tlefish") == checksum(b"cuttlefish")
    True
    """
    total = 0
    for part in parts:
        total = zlib.crc32(part, total)
    return total


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file completely or not at all.

    Args:
        path: The file.

    Yields:
        An empty file beside it, which takes its place once it is complete and on disk, or vanishes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, replacing(Path(folder, "a.txt")) as new:
    ...     _ = new.write_text("all of it")
    """
    temporary = beside(path)
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        # safetensors makes the file readable by its owner only; restore what the user's umask allows.
        temporary.chmod(mode)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        # A read-only disk refuses this too; what it refused first is the error to show.
        with suppress(OSError):
            temporary.unlink()
