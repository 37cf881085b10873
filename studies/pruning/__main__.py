"""Command line of the study: run the cells that are left, then renew the tables and the figure of its page."""

from __future__ import annotations

import sys
from pathlib import Path

from studies.cells import Study

from .measuring import cells
from .tables import all_tables, draw

ROOT = Path(__file__).resolve().parents[2]
STUDY = Study(
    name="pruning",
    cells=cells,
    recipe=1,
    tables=all_tables,
    page=ROOT / "docs" / "spline-pruning.md",
    records=Path(__file__).resolve().parent / "records",
    draw=lambda found: draw(found, ROOT / "docs" / "studies" / "pruning"),
)

if __name__ == "__main__":
    sys.exit(STUDY.main())
