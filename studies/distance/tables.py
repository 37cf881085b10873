"""The tables of the page, from the results alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

from studies.distance.pictures import CHANGES
from studies.distance.planted import KINDS
from studies.distance.views import MEAN
from studies.page import table

Results = dict[str, dict[str, Any]]
DISTANCES = {"code": "code", "l2": "feature L2", "cosine": "feature cosine"}
FEW, ALL = "10000", "60000"
# The strength of each change that the table shows, of those in CHANGES.
SHOWN = 1
ARCHITECTURES = {"cnn": "CNN", "mlp": "MLP"}


def runs(results: Results, family: str) -> list[dict[str, Any]]:
    """The results of all seeds of one part."""
    return [results[name] for name in sorted(results) if name.rpartition("-")[0] == family]


def values(found: Sequence[dict[str, Any]], take: Callable[[dict[str, Any]], float]) -> str:
    """Mean and spread over the seeds."""
    numbers = [100 * take(one) for one in found]
    spread = stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{mean(numbers):.1f}" + (f" ± {spread:.1f}" if spread else "")


def all_tables(results: Results) -> dict[str, str]:
    """Every table."""
    tables = {"sensitivity": _sensitivity(runs(results, "cnn")), "outliers": _outliers(results)}
    for name in ARCHITECTURES:
        tables[f"depth_{name}"] = _depth(runs(results, name))
        tables[f"training_{name}"] = _training(runs(results, name))
    tables["baselines"] = _baselines(results)
    tables["labels"] = _labels(runs(results, "planted"))
    tables["duplicates"] = _duplicates(runs(results, "planted"))
    return tables


def _depth(found: list[dict[str, Any]]) -> str:
    head = ["distance at", "units", *DISTANCES.values(), *(f"{name}, all 60,000" for name in DISTANCES.values())]
    rows = []
    for name, operator in found[0]["operators"].items():
        few = [values(found, lambda one, key=f"{d}|{name}": one["after"][FEW][key]) for d in DISTANCES]
        all_ = [values(found[:1], lambda one, key=f"{d}|{name}": one["after"][ALL][key]) for d in DISTANCES]
        rows.append([operator["title"], f"{operator['units']:,}", *few, *all_])
    key = f"code|{MEAN}"
    few, all_ = (
        values(part, lambda one, size=size: one["after"][size][key]) for part, size in ((found, FEW), (found[:1], ALL))
    )
    return table(head, [*rows, ["mean over the operators", "", few, "", "", all_, "", ""]])


def _training(found: list[dict[str, Any]]) -> str:
    head = ["distance at", *(f"{name}, {when}" for name in DISTANCES.values() for when in ("before", "after"))]
    rows = []
    for name, operator in found[0]["operators"].items():
        cells = []
        for d in DISTANCES:
            key = f"{d}|{name}"
            cells.append(values(found, lambda one, key=key: one["before"][key]))
            cells.append(values(found, lambda one, key=key: one["after"][FEW][key]))
        rows.append([operator["title"], *cells, values(found, lambda one, key=f"code|{name}": one["kept"][key])])
    return table([*head, "neighbors kept (code)"], rows)


def _baselines(results: Results) -> str:
    found, photographs = runs(results, "cnn"), results["photographs"]["after"]
    rows = [["pixels, L2", values(found, lambda one: one["after"][FEW]["pixels"])]]
    rows += [
        [title, f"{100 * photographs[key]:.1f}"]
        for title, key in (
            ("EfficientNet-Lite0, perceptual (four stages)", "perceptual"),
            ("EfficientNet-Lite0, pooled features, cosine", "cosine|pooled"),
            ("EfficientNet-Lite0, code of its last ReLU6", next(key for key in photographs if key.startswith("code|"))),
        )
    ]
    for name, title in ARCHITECTURES.items():
        accuracy = values(runs(results, name), lambda one: one["query_accuracy"])
        rows.append([f"the {title}'s own answers (trained on all 60,000)", accuracy])
    return table(["", "accuracy, %"], rows)


def _sensitivity(found: list[dict[str, Any]]) -> str:
    chosen = {kind: strengths[SHOWN] for kind, (_, strengths) in CHANGES.items()}
    head = ["distance", *(f"{kind} {strength:g}" for kind, strength in chosen.items())]
    titles = {"pixels": "pixels"}
    for name, operator in found[0]["operators"].items():
        titles |= {f"{d}|{name}": f"{title} at {operator['title']}" for d, title in DISTANCES.items() if d != "cosine"}
    titles[f"code|{MEAN}"] = "code, mean over the operators"
    rows = []
    for key, title in titles.items():
        cells = []
        for kind in chosen:
            both = [mean(one["sensitivity"][kind][key][what][SHOWN] for one in found) for what in ("moved", "found")]
            cells.append(f"{both[0]:.2f} / {100 * both[1]:.0f}%")
        rows.append([title, *cells])
    return table(head, rows)


def _outliers(results: Results) -> str:
    cnn, held = runs(results, "cnn"), runs(results, "held-out")
    operators = cnn[0]["operators"]
    titles = {"softmax": "one minus the largest softmax", "energy": "energy", "pixels": "pixels, L2"}
    for d, title in DISTANCES.items():
        titles |= {f"{d}|{name}": f"{title} at {operator['title']}" for name, operator in operators.items()}
        titles |= {f"code|{MEAN}": "code, mean over the operators"} if d == "code" else {}
    rows = [
        [
            title,
            values(cnn, lambda one, key=key: one["outliers"]["resized"][key]),
            values(cnn, lambda one, key=key: one["outliers"]["padded"][key]),
            values(held, lambda one, key=key: one["outliers"][key]),
        ]
        for key, title in titles.items()
    ]
    return table(["score", "digits, resized", "digits, padded", "held-out classes"], rows)


def _labels(found: list[dict[str, Any]]) -> str:
    titles = {
        "recall": "planted wrong labels among the candidates",
        "precision": "candidates that were planted",
        "corrected": "planted labels whose suggestion is the right one",
        "auroc": "AUROC of the score",
        "auroc_loss": "AUROC of the network's own loss",
        "auroc_pixels": "AUROC of the same score in pixels, L2",
    }
    rows = [[title, values(found, lambda one, key=key: one["labels"][key])] for key, title in titles.items()]
    return table(["", "%"], rows)


def _duplicates(found: list[dict[str, Any]]) -> str:
    rows = [[kind, values(found, lambda one, kind=kind: one["duplicates"]["rates"][kind])] for kind in KINDS]
    others = mean(one["duplicates"]["others"] for one in found)
    return table(["planted copy", "found, %"], [*rows, ["pairs of originals listed too (number)", f"{others:.0f}"]])
