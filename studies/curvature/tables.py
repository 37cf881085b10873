"""The tables of the page, from the records."""

from __future__ import annotations

from typing import Any

import numpy as np

from studies.intervals import interval
from studies.page import table

NAMES = {
    "efficientnet-digits": "EfficientNet-Lite0 → digits",
    "efficientnet-fashion": "EfficientNet-Lite0 → Fashion-MNIST",
    "fashion-digits": "Fashion-MNIST CNN → digits",
}
INPUTS = {"test": "clean", "noisy": "noise", "attacked": "attacked"}


def all_tables(found: list[dict[str, Any]]) -> dict[str, str]:
    """Accuracies, paired differences and validation curves."""
    kinds = [name for name in NAMES if any(record["kind"] == name for record in found)]
    by_kind = {name: [record["found"] for record in found if record["kind"] == name] for name in kinds}
    return {
        "accuracies": table(
            ["transfer", "seeds", "inputs", "plain probe", "last layer trained", "curvature tuning"],
            [_accuracies(name, which, by_kind[name]) for name in kinds for which in INPUTS],
        ),
        "differences": table(
            ["transfer", "inputs", "tuning less plain probe", "tuning less last layer"],
            [_differences(name, which, by_kind[name]) for name in kinds for which in INPUTS],
        ),
        "betas": table(
            ["transfer", "chosen β, seed by seed", *(_validation(by_kind[kinds[0]]) if kinds else [])],
            [
                [NAMES[name], ", ".join(f"{item['beta']:g}" for item in by_kind[name]), *_means(by_kind[name])]
                for name in kinds
            ],
        ),
    }


def _right(found: list[dict[str, Any]], kind: str, which: str) -> np.ndarray:
    return np.array([item["right"][kind][which] for item in found], dtype=float)


def _accuracies(name: str, which: str, found: list[dict[str, Any]]) -> list[str]:
    shares = [f"{100 * _right(found, kind, which).mean():.1f}%" for kind in ("probe", "last", "tuned")]
    return [NAMES[name], str(len(found)), INPUTS[which], *shares]


def _differences(name: str, which: str, found: list[dict[str, Any]]) -> list[str]:
    tuned = _right(found, "tuned", which)
    return [
        NAMES[name],
        INPUTS[which],
        *(str(interval(tuned - _right(found, kind, which))) for kind in ("probe", "last")),
    ]


def _validation(found: list[dict[str, Any]]) -> list[str]:
    return [f"β = {beta}" for beta in found[0]["validation"]]


def _means(found: list[dict[str, Any]]) -> list[str]:
    return [f"{100 * np.mean([item['validation'][beta] for item in found]):.1f}%" for beta in found[0]["validation"]]
