"""Files that hold either what they held before or all that is new, and the sum by which damage is noticed."""

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
    """The CRC-32 of some bytes or C-contiguous arrays, part after part as if they were one."""
    total = 0
    for part in parts:
        total = zlib.crc32(part, total)
    return total


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give an empty file beside another, to be written: when complete and on disk it takes the other's place."""
    temporary = beside(path)
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        # safetensors makes the file readable by its owner only; restore what the user's umask allows.
        temporary.chmod(mode)
        # On disk before it takes the place: after a loss of power the name must not lead to an empty file.
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        # A read-only disk refuses this too; what it refused first is the error to show.
        with suppress(OSError):
            temporary.unlink()
