"""The finished runs, one JSON line each: whatever kills the study, at most the run under way is lost."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maxaffine._files import replacing

DIGITS = 5


def rounded(item: Any) -> Any:
    """A record with its numbers to four digits."""
    if isinstance(item, dict):
        return {key: rounded(value) for key, value in item.items()}
    if isinstance(item, list):
        return [rounded(value) for value in item]
    return float(f"{item:.4g}") if isinstance(item, float) else item


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the record of a cell that has a file of its own, completely or not at all."""
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Open the file, made where there is none, for one process alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{path} is being written by another run of the study; wait for it or stop it") from None
        _drop_broken_tail(path)
        yield Store(path)


class Store:
    """The runs in a file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = {_key(record["run"]) for record in records(path)}

    def __contains__(self, run: dict[str, Any]) -> bool:
        """Whether a configuration is finished."""
        return _key(run) in self.done

    def add(self, run: dict[str, Any], outcomes: dict[str, float], seconds: float) -> None:
        """Write a finished run, to the disk, before returning."""
        rounded = {name: float(f"{value:.{DIGITS}g}") for name, value in outcomes.items()}
        line = json.dumps({"run": run, "outcomes": rounded, "seconds": round(seconds, 2)}, separators=(",", ":"))
        with self.path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.done.add(_key(run))


def records(path: Path) -> list[dict[str, Any]]:
    """The finished runs of a file; a line that a kill left half-written does not count."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def _drop_broken_tail(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _key(run: dict[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)
