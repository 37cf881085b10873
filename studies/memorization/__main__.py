"""Command line of the study: run what is left of the grid, then renew the tables and figures of its page."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from studies.page import renew
from studies.store import open_store, records

from .figures import draw
from .grid import runs
from .tables import all_tables
from .training import outcomes

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "studies" / "memorization"
RUNS = Path(__file__).resolve().parent / "runs.jsonl"


def main() -> int:
    """Run, and renew; Ctrl-C ends the running part only, and what is finished stays."""
    parser = argparse.ArgumentParser(prog="python -m studies.memorization", description=__doc__)
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew tables and figures")
    if not parser.parse_args().report_only:
        try:
            run_all(RUNS)
        except KeyboardInterrupt:
            print("interrupted: the finished runs are kept, and the next call goes on after them")
    found = records(RUNS)
    draw(found, FOLDER)
    renew(DOCS / "memorization.md", all_tables(found))
    return 0


def run_all(path: Path) -> None:
    """Run the trainings that are not in the file yet."""
    torch.set_num_threads(1)
    with open_store(path) as store:
        waiting = [run for run in runs() if run.key() not in store]
        for run in tqdm(waiting, unit="run"):
            begin = time.process_time()
            found = outcomes(run)
            store.add(run.key(), found, time.process_time() - begin)


if __name__ == "__main__":
    sys.exit(main())
