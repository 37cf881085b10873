"""Run what is left of the study, then renew its page: python -m studies.universality."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from studies.cells import Cell, Study

from . import offsets, rates, ways
from .figures import draw
from .tables import all_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
RATES = [(function, features) for function in ("squared norm", "log-sum-exp") for features in (1, 2, 3, 5)]
WAVES = [("waves", 1), ("waves", 2)]
WAYS = [(2, 16, 0.0), (2, 16, 0.1), (5, 32, 0.0), (5, 32, 0.1)]
OFFSETS = [("digits", "mlp"), ("digits", "cnn"), ("fashion-mnist", "mlp"), ("fashion-mnist", "cnn")]
OFFSETS += [("breast cancer", "mlp"), ("wine", "mlp")]
KINDS = (
    ("offsets", offsets.measure, ("name", "network"), OFFSETS),
    ("ways", ways.measure, ("features", "pieces", "noise"), WAYS),
    ("waves", rates.measure, ("function", "features"), WAVES),
    ("rate", rates.measure, ("function", "features"), RATES),
)


def cells() -> list[Cell]:
    """All of them; each holds all five seeds."""
    return [
        Cell("-".join(map(str, (kind, *values))).replace(" ", "-"), kind, given, partial(measure, **given))
        for kind, measure, keys, rows in KINDS
        for values in rows
        for given in [dict(zip(keys, values, strict=True))]
    ]


STUDY = Study(
    name="universality",
    cells=cells,
    recipe=2,
    tables=all_tables,
    page=DOCS / "universality.md",
    records=Path(__file__).resolve().parent / "records",
    draw=partial(draw, folder=DOCS / "images"),
)

if __name__ == "__main__":
    sys.exit(STUDY.main())
