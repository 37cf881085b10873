"""Command line of the study: run the cells that are left, then renew the tables of its page."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from studies.cells import Cell, Study

from .measure import measure
from .tables import all_tables
from .transfers import TRANSFERS

SEEDS = range(5)


def cells() -> list[Cell]:
    """A cell for each transfer and seed."""
    return [
        Cell(f"{name}-{seed}", name, {"seed": seed}, partial(measure, name, seed))
        for seed in SEEDS
        for name in TRANSFERS
    ]


STUDY = Study(
    name="curvature",
    cells=cells,
    recipe=1,
    tables=all_tables,
    page=Path(__file__).resolve().parents[2] / "docs" / "curvature-tuning.md",
    records=Path(__file__).resolve().parent / "records",
)

if __name__ == "__main__":
    sys.exit(STUDY.main())
