"""Command line of the study: run what is left of the grid, then renew the tables and figures of its page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from studies.page import renew
from studies.store import records

from .analysis import Results
from .figures import draw
from .runner import run_all
from .tables import all_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "studies" / "orthogonal"
RUNS = Path(__file__).resolve().parent / "runs.jsonl"
PAGES = (DOCS / "orthogonal-templates.md", FOLDER / "tables.md")


def main() -> int:
    """Run, and renew; Ctrl-C ends the running part only, and what is finished stays."""
    parser = argparse.ArgumentParser(prog="python -m studies.orthogonal", description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of the finished runs, one JSON line each")
    parser.add_argument("--budget-minutes", type=float, help="begin no run after this time; the next call goes on")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="runs with all these entries, e.g. digits size=200"
    )
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew tables and figures")
    arguments = parser.parse_args()
    if not arguments.report_only:
        try:
            left = run_all(arguments.runs, arguments.only, arguments.budget_minutes)
            print(f"{left} of the chosen runs are left")
        except KeyboardInterrupt:
            print("interrupted: the finished runs are kept, and the next call goes on after them")
    results = Results(records(arguments.runs))
    if arguments.runs == RUNS:
        draw(results, FOLDER)
        for page in PAGES:
            renew(page, all_tables(results))
    else:
        print("\n".join(f"\n{name}\n\n{text}" for name, text in all_tables(results).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
