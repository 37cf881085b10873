"""The tables of the page, from the finished cells alone: means over seeds, with the range in brackets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from studies.page import table

Record = dict[str, Any]
JUDGED = ("sneakers", "classes", "precision", "recall", "coverage")


def all_tables(found: Sequence[Record]) -> dict[str, str]:
    """Every table by name."""
    writers = {"mixture": _mixture, "garments": _garments, "ranks": _ranks, "elbow": _elbow, "faces": _faces}
    return {name: write(found) for name, write in writers.items()}


def _of(found: Sequence[Record], kind: str, **settings: Any) -> list[Record]:
    return [
        record["found"]
        for record in found
        if record["kind"] == kind and all(record["settings"][key] == value for key, value in settings.items())
    ]


def _values(found: Sequence[Record], kind: str, key: str) -> list[Any]:
    return sorted({record["settings"][key] for record in found if record["kind"] == kind})


def _mean(numbers: Iterable[float], form: str = ".3f") -> str:
    items = np.array(list(numbers))
    return f"{items.mean():{form}} ({items.min():{form}} to {items.max():{form}})"


def _mixture(found: Sequence[Record]) -> str:
    rows = []
    for separation in _values(found, "mixture", "separation"):
        records = _of(found, "mixture", separation=separation)
        keys = ("plain", "even", "ideal", "effective", "spread", "largest")
        rows.append([separation, len(records), *(_mean(record[key] for record in records) for key in keys)])
    heads = ("plain samples", "resampled", "perfect draws", "effective share", "spread of log volume", "largest")
    return table(["between modes", "seeds", *heads], rows)


def _garments(found: Sequence[Record]) -> str:
    rows = []
    for latents in _values(found, "garments", "latents"):
        records = _of(found, "garments", latents=latents)
        for way in records[0]["ways"]:
            runs = [record["ways"][way] for record in records]
            cells = [_mean((run[key] for run in runs), ".2f") for key in JUDGED]
            rows.append([f"{latents} latents, {way}", *cells, _mean((run["effective"] for run in runs), ".2g")])
    return table(["samples", *JUDGED, "effective share"], rows)


def _ranks(found: Sequence[Record]) -> str:
    records = _of(found, "dimensions")
    widths = list(records[0]["ranks"]) if records else []
    rows = [["dimension", *(_mean((record["ranks"][width] for record in records), ".2f") for width in widths)]]
    return table(["width", *widths], rows if records else [])


def _elbow(found: Sequence[Record]) -> str:
    records = _of(found, "dimensions")
    sizes = list(records[0]["errors"]) if records else []
    rows = [["error", *(_mean((record["errors"][size] for record in records), ".4f") for size in sizes)]]
    bends = [", ".join(str(record["elbow"]) for record in records)]
    return table(["latents", *sizes, "bends"], [rows[0] + bends] if records else [])


def _faces(found: Sequence[Record]) -> str:
    rows = []
    for record in _of(found, "faces"):
        values = ", ".join(f"{value:.3g}" for value in record["spectrum"])
        sizes = ", ".join(f"{share:.1%} at {rho}" for rho, share in record["effective"].items())
        volume = f"{record['mean']:.1f} ± {record['spread']:.1f}"
        rows.append([values, record["dimension"], volume, sizes, f"{record['contrast']:.2f}"])
    heads = ("dimension", "log volume", "effective share by rho", "correlation with contrast")
    return table(["singular values 1, 10, 50, 100", *heads], rows)
