"""Command line of the study: run the cells that are left, then renew the tables and figures of its page."""

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

from .cells import RECIPE, Cell, cells
from .figures import draw
from .tables import all_tables

ROOT = Path(__file__).resolve().parents[2]
RECORDS = Path(__file__).resolve().parent / "records"
WEIGHTS = ROOT / "build" / "studies" / "frozen"
FOLDER = ROOT / "docs" / "studies" / "frozen"
PAGE = ROOT / "docs" / "frozen-maps.md"


def main(arguments: list[str] | None = None) -> int:
    """Run, and renew; Ctrl-C ends the running cell only, and what is finished stays."""
    parser = argparse.ArgumentParser(prog="python -m studies.frozen", description=__doc__)
    parser.add_argument("--records", type=Path, default=RECORDS, help="folder of the finished cells")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the trained networks")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the figures")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are renewed")
    parser.add_argument("--only", nargs="+", default=[], metavar="CELL", help="cells to run, e.g. vit-0")
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew tables and figures")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - {cell.name for cell in cells()}:
        parser.error(f"no cell {', '.join(sorted(unknown))}; there are {', '.join(cell.name for cell in cells())}")
    torch.set_num_threads(1)
    if not options.report_only:
        try:
            _run(options.records, options.weights, options.only)
        except KeyboardInterrupt:
            print("interrupted: the finished cells are kept, and the next call goes on after them")
    found = finished(options.records)
    draw(found, options.folder)
    renew(options.page, all_tables(found))
    print(f"{len(found)} of {len(cells())} cells are finished")
    return 0


def finished(folder: Path) -> list[dict[str, Any]]:
    """The records of the finished cells, in the order of the study; those of another recipe do not count."""
    files = [folder / f"{cell.name}.json" for cell in cells()]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    return [record for record in found if record["recipe"] == RECIPE]


def _run(folder: Path, weights: Path, only: list[str]) -> None:
    done = {Cell(record["network"], record["seed"]) for record in finished(folder)}
    left = [cell for cell in cells() if cell not in done and (not only or cell.name in only)]
    folder.mkdir(parents=True, exist_ok=True)
    for cell in tqdm(left, unit="cell", disable=None):
        begin = time.process_time()
        record = rounded(cell.measure(weights)) | {"cpu_seconds": round(time.process_time() - begin)}
        write_record(folder / f"{cell.name}.json", record)


if __name__ == "__main__":
    sys.exit(main())
