"""A study made of cells: each is run once and recorded; what a call leaves, the next goes on with."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from studies.page import renew
from studies.store import rounded, write_record

Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One experiment at one seed."""

    name: str
    kind: str
    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Study:
    """What a study runs, where it keeps that, and the page it tells of it."""

    name: str
    cells: Callable[[], list[Cell]]
    recipe: int  # raised when a recorded cell would come out otherwise
    tables: Callable[[list[Record]], dict[str, str]]
    page: Path
    records: Path
    draw: Callable[[list[Record]], None] = lambda found: None  # the page's pictures

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run what is left, and renew the page; Ctrl-C ends the running cell only, and what is finished stays."""
        parser = argparse.ArgumentParser(prog=f"python -m studies.{self.name}", description=__doc__)
        parser.add_argument("--records", type=Path, default=self.records, help="folder of the finished cells")
        parser.add_argument("--page", type=Path, default=self.page, help="the page whose tables are renewed")
        parser.add_argument("--only", nargs="+", default=[], metavar="CELL", help="cells by how their names begin")
        parser.add_argument("--report-only", action="store_true", help="run nothing, renew the page")
        options = parser.parse_args(arguments)
        torch.set_num_threads(1)
        if not options.report_only:
            try:
                self._run(options.records, tuple(options.only))
            except KeyboardInterrupt:
                print("interrupted: the finished cells are kept, and the next call goes on after them")
        found = self.finished(options.records)
        self.draw(found)
        renew(options.page, self.tables(found))
        print(f"{len(found)} of {len(self.cells())} cells are finished")
        return 0

    def finished(self, records: Path) -> list[Record]:
        """The records of the finished cells, in the order of the study; those of another recipe do not count."""
        files = [records / f"{cell.name}.json" for cell in self.cells()]
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
        return [record for record in found if record["recipe"] == self.recipe]

    def _run(self, records: Path, only: tuple[str, ...]) -> None:
        done = {record["name"] for record in self.finished(records)}
        left = [cell for cell in self.cells() if cell.name not in done and (not only or cell.name.startswith(only))]
        records.mkdir(parents=True, exist_ok=True)
        for cell in tqdm(left, unit="cell", disable=None):
            begin = time.process_time()
            record = {"name": cell.name, "kind": cell.kind, "settings": cell.settings, "recipe": self.recipe}
            record |= {"found": rounded(cell.measure()), "cpu_seconds": round(time.process_time() - begin)}
            write_record(records / f"{cell.name}.json", record)
