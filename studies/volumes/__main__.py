"""Command line of the study: run the seeds that are left, then renew the tables and the figure of its page."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from studies.page import renew
from studies.store import rounded, write_record

from .measuring import measure
from .tables import all_tables, draw

RECIPE = 1  # raised when a recorded seed would come out otherwise
SEEDS = range(5)
RECORDS = Path(__file__).resolve().parent / "records"
DOCS = Path(__file__).resolve().parents[2] / "docs"


def main(arguments: list[str] | None = None) -> int:
    """Run, and renew; Ctrl-C ends the running seed only, and what is finished stays."""
    parser = argparse.ArgumentParser(prog="python -m studies.volumes", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the finished seeds")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page and of its figure")
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew the page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not options.report_only:
        try:
            _run(options.records)
        except KeyboardInterrupt:
            print("interrupted: the finished seeds are kept, and the next call goes on after them")
    found = finished(options.records)
    if found:
        draw(found, options.docs / "studies" / "volumes" / "shares.png")
    renew(options.docs / "volumes.md", all_tables(found))
    print(f"{len(found)} of {len(SEEDS)} seeds are finished")
    return 0


def finished(records: Path) -> list[dict[str, Any]]:
    """The records of the finished seeds, in order; those of another recipe do not count."""
    files = [records / f"seed-{seed}.json" for seed in SEEDS]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    return [record for record in found if record["recipe"] == RECIPE]


def _run(records: Path) -> None:
    done = {record["seed"] for record in finished(records)}
    records.mkdir(parents=True, exist_ok=True)
    for seed in tqdm([seed for seed in SEEDS if seed not in done], unit="seed", disable=None):
        begin = time.process_time()
        record = {"seed": seed, "recipe": RECIPE, "found": rounded(measure(seed))}
        write_record(records / f"seed-{seed}.json", record | {"cpu_seconds": round(time.process_time() - begin)})


if __name__ == "__main__":
    sys.exit(main())
