"""Command line of the study: run the trainings that are left, then renew the tables and figures of its page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from maxaffine._files import replacing
from studies.page import renew

from .measuring import measured, runs
from .page import draw, measures

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUNS = Path(__file__).resolve().parent / "runs.jsonl"


def main() -> int:
    """Run and renew; every finished training is kept, also after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m studies.complexity", description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of the finished trainings, one JSON line each")
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew tables and figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)
    if not arguments.report_only:
        try:
            _run(arguments.runs)
        except KeyboardInterrupt:
            print("interrupted: the finished trainings are kept, and the next call goes on after them")
    rows = [row for training in finished(arguments.runs) for row in training]
    if arguments.runs == RUNS and rows:
        draw(rows, DOCS / "studies" / "complexity" / "local-complexity.png")
        renew(DOCS / "local-complexity.md", {"measures": measures(rows)})
    return 0


def finished(path: Path) -> list[list[dict]]:
    """The rows of every finished training; a last line that was cut short is left out."""
    if not path.exists():
        return []
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            print(f"{path}: an unfinished line is left out")
    return found


def _run(path: Path) -> None:
    done = {(rows[0]["labels"], rows[0]["seed"]) for rows in finished(path)}
    for labels, seed in runs():
        if (labels, seed) not in done:
            print(f"labels {labels}, seed {seed}", flush=True)
            rows = measured(labels, seed)
            lines = [json.dumps(item) for item in [*finished(path), rows]]
            with replacing(path) as fresh:
                fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
