"""Command line of the study: run the trainings that are left, then renew the tables and the figure of its page."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from studies.page import renew
from studies.store import open_store, records

from .tables import all_tables, draw
from .training import SEEDS, outcomes, runs

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUNS = Path(__file__).resolve().parent / "runs.jsonl"


def main(arguments: list[str] | None = None) -> int:
    """Run, and renew; every finished training is kept, also after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m studies.recurrent", description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of the finished trainings, one JSON line each")
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew tables and figure")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not options.report_only:
        try:
            _run(options.runs)
        except KeyboardInterrupt:
            print("interrupted: the finished trainings are kept, and the next call goes on after them")
    found = records(options.runs)
    if options.runs == RUNS and found:
        draw(found, DOCS / "studies" / "recurrent" / "recurrent.png")
        renew(DOCS / "recurrent-noise.md", all_tables(found))
    print(f"{len(found)} of {len(runs()) * len(SEEDS)} trainings are finished")
    return 0


def _run(path: Path) -> None:
    with open_store(path) as store:
        left = [run for run in runs() if any(run.settings(seed) not in store for seed in SEEDS)]
        for run in tqdm(left, unit="run", disable=None):
            begin = time.process_time()
            found = outcomes(run)
            seconds = (time.process_time() - begin) / len(SEEDS)
            for seed, outcome in zip(SEEDS, found, strict=True):
                if run.settings(seed) not in store:
                    store.add(run.settings(seed), outcome, seconds)


if __name__ == "__main__":
    sys.exit(main())
