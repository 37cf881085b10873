"""The finished runs, a file each, written completely or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maxaffine._files import replacing

from .runs import RECIPE, Run


def finished(folder: Path, run: Run) -> dict[str, Any] | None:
    """What is stored of a run; None where it is not finished, or was with another recipe."""
    path = folder / f"{run.name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return record if record["recipe"] == RECIPE else None


def keep(folder: Path, run: Run, record: dict[str, Any]) -> None:
    """Store a run."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{run.name}.json") as path:
        path.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
