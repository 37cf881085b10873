"""Command line of the study: run what is left, then renew the tables and figures of its page."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from studies.page import renew

from .figures import draw, draw_trees
from .runs import measured, runs
from .store import finished, keep
from .tables import all_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "studies" / "hierarchy"
RECORDS = Path(__file__).resolve().parent / "records"
PAGE = DOCS / "code-hierarchy.md"


def main(arguments: list[str] | None = None) -> int:
    """Run, and renew; Ctrl-C ends the running part only, and what is finished stays."""
    parser = argparse.ArgumentParser(prog="python -m studies.hierarchy", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the finished runs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the figures")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are renewed")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="runs whose names hold all these words")
    parser.add_argument("--budget-minutes", type=float, help="begin no run after this time; the next call goes on")
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew tables and figures")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not options.report_only:
        try:
            _run(options.records, options.only, options.budget_minutes)
        except KeyboardInterrupt:
            print("interrupted: the finished runs are kept, and the next call goes on after them")
    records = [record for run in runs() if (record := finished(options.records, run)) is not None]
    draw_trees(options.folder)
    draw(records, options.folder)
    renew(options.page, all_tables(records))
    print(f"{len(records)} of {len(runs())} runs are finished")
    return 0


def _run(folder: Path, words: list[str], budget: float | None) -> None:
    left = [run for run in runs() if all(word in run.name for word in words) and finished(folder, run) is None]
    begin = time.monotonic()
    for run in tqdm(left, unit="run", disable=None):
        if budget is not None and time.monotonic() - begin > 60 * budget:
            return
        keep(folder, run, measured(run))


if __name__ == "__main__":
    sys.exit(main())
