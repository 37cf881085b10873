"""The tables of the page, from the finished cells alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from studies.cells import Record
from studies.intervals import interval
from studies.page import table

from .ways import WAYS

ASYMPTOTIC = 8  # pieces from which on a rate is fitted


def errors(found: Sequence[Record], function: str, features: int, way: str) -> dict[int, np.ndarray]:
    """The error of each seed by the number of pieces; empty where nothing is finished."""
    return {
        int(pieces): np.array([seed[way]["rms"] for seed in seeds])
        for record in found
        if record["settings"] == {"function": function, "features": features}
        for pieces, seeds in record["found"].items()
    }


def exponent(by_pieces: dict[int, np.ndarray]) -> float:
    """The slope of the logarithm of the mean error over that of the pieces."""
    pieces = [count for count in by_pieces if count >= ASYMPTOTIC]
    return float(np.polyfit(np.log(pieces), np.log([by_pieces[count].mean() for count in pieces]), 1)[0])


def all_tables(found: Sequence[Record]) -> dict[str, str]:
    """Every table by name."""
    return {"rates": _rates(found), "waves": _waves(found), "ways": _ways(found), "offsets": _offsets(found)}


def _of(found: Sequence[Record], kind: str) -> list[tuple[list[Any], dict[str, Any]]]:
    """Settings and results of the cells of a kind."""
    return [([*record["settings"].values()], record["found"]) for record in found if record["kind"] == kind]


def _rates(found: Sequence[Record]) -> str:
    rows = []
    for (function, features), _ in _of(found, "rate"):
        fitted, tangents = (errors(found, function, features, way) for way in ("fitted", "tangents"))
        slopes = [f"{exponent(by_pieces):.2f}" for by_pieces in (fitted, tangents)]
        last = [f"{by_pieces[max(by_pieces)].mean():.2g}" for by_pieces in (fitted, tangents)]
        rows.append([f"{function}, D = {features}", f"{-2 / features:.2f}", *slopes, *last])
    head = ("", "theory, -2/D", "fitted", "tangents", "error of 64 pieces, fitted", "tangents")
    return table(head, rows)


def _waves(found: Sequence[Record]) -> str:
    rows = []
    for (function, features), _ in _of(found, "waves"):
        one, two = (errors(found, function, features, way) for way in ("one", "two"))
        rows += [[f"D = {features}", count, f"{one[count].mean():.3f}", f"{two[count].mean():.3f}"] for count in one]
    return table(("", "pieces", "one spline", "two, composed"), rows)


def _ways(found: Sequence[Record]) -> str:
    rows = []
    for (features, pieces, noise), by_way in _of(found, "ways"):
        means = {
            way: [np.mean([seed[key] for seed in seeds]) for key in ("rms", "seconds")] for way, seeds in by_way.items()
        }
        cells = [f"{error:.3f} ({seconds:.1f} s)" for error, seconds in (means[way] for way in WAYS)]
        rows.append([f"D = {features}, {pieces} pieces, noise {noise:g}", *cells])
    return table(("", *WAYS), rows)


def _offsets(found: Sequence[Record]) -> str:
    rows = []
    for (data, network), answers in _of(found, "offsets"):
        right = {key: np.array([[int(hit) for hit in seed] for seed in seeds]) for key, seeds in answers.items()}
        shares = [f"{right[f'{kind}, bright'].mean():.3f}" for kind in ("with", "without")]
        changes = [interval(right[f"without, {light}"] - right[f"with, {light}"]) for light in ("bright", "dark")]
        rows.append([f"{data}, {network}", *shares, *changes])
    head = ("", "with offsets", "without", "without less with", "the same, inputs at 0.3 of their size")
    return table(head, rows)
