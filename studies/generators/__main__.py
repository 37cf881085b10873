"""Command line of the study: run the cells that are left, then renew the tables of its page."""

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

from .cells import RECIPE, cells
from .tables import all_tables

ROOT = Path(__file__).resolve().parents[2]
RECORDS = Path(__file__).resolve().parent / "records"
FOLDER = ROOT / "docs" / "studies" / "generators"
PAGE = ROOT / "docs" / "generator-sampling.md"


def main(arguments: list[str] | None = None) -> int:
    """Run, and renew; Ctrl-C ends the running cell only, and what is finished stays."""
    parser = argparse.ArgumentParser(prog="python -m studies.generators", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the finished cells")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the figures")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are renewed")
    parser.add_argument("--only", nargs="+", default=[], metavar="CELL", help="cells to run, by how their names begin")
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew the tables")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not options.report_only:
        try:
            _run(options.records, options.folder, tuple(options.only))
        except KeyboardInterrupt:
            print("interrupted: the finished cells are kept, and the next call goes on after them")
    found = finished(options.records, options.folder)
    renew(options.page, all_tables(found))
    print(f"{len(found)} of {len(cells(options.folder))} cells are finished")
    return 0


def finished(records: Path, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The records of the finished cells, in the order of the study; those of another recipe do not count."""
    files = [records / f"{cell.name}.json" for cell in cells(folder)]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    return [record for record in found if record["recipe"] == RECIPE]


def _run(records: Path, folder: Path, only: tuple[str, ...]) -> None:
    done = {record["name"] for record in finished(records, folder)}
    left = [cell for cell in cells(folder) if cell.name not in done and (not only or cell.name.startswith(only))]
    records.mkdir(parents=True, exist_ok=True)
    for cell in tqdm(left, unit="cell", disable=None):
        begin = time.process_time()
        record = {"name": cell.name, "kind": cell.kind, "settings": cell.settings, "recipe": RECIPE}
        record |= {"found": rounded(cell.measure()), "cpu_seconds": round(time.process_time() - begin)}
        write_record(records / f"{cell.name}.json", record)


if __name__ == "__main__":
    sys.exit(main())
