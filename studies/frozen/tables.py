"""The tables of the page, from the finished cells alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from studies.intervals import Interval, interval
from studies.page import table

from .attributions import METHODS
from .networks import NAMES, TITLES

Record = dict[str, Any]
WORDS = {**METHODS, "random": "random order"}


def all_tables(found: Sequence[Record]) -> dict[str, str]:
    """Every table by name."""
    tables = {"maps": maps, "areas": areas, "baselines": baselines, "agreement": agreement, "carriers": carriers}
    return {name: write(found) for name, write in tables.items()}


def networks(found: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each network of which two seeds or more are finished."""
    alone = [record for record in found if record["seed"] is not None]
    by = {name: [record for record in alone if record["network"] == name] for name in NAMES}
    return {name: records for name, records in by.items() if len(records) > 1}


def maps(found: Sequence[Record]) -> str:
    """How far the two maps are apart, and what each leaves to b."""
    rows = []
    for name, records in networks(found).items():
        median = _medians(records, "maps")
        quality = np.mean([record["quality"] for record in records])
        cells = [f"{median(key):.2f}" for key in ("apart", "steeper", "cosine")]
        shares = [f"{median(key):.0%}" for key in ("offset_frozen", "offset_tangent")]
        like = [_mean(records, "like_frozen", method) for method in ("gradient", "integrated", "attnlrp")]
        rows.append([TITLES[name], len(records), f"{quality:.1%}", *cells, *shares, *like])
    heads = ("\\|A − J\\| / \\|J\\|", "\\|A\\| / \\|J\\|", "cos(A, J)", "left to b by A", "left to b by J")
    ranks = ("ranks: gradient × input", "ranks: integrated gradients", "ranks: AttnLRP")
    return table(["network", "seeds", "right answers", *heads, *ranks], rows)


def areas(found: Sequence[Record]) -> str:
    """Deletion and insertion of the frozen map, and how far each other order is from it, over all baselines."""
    rows = []
    for name, records in networks(found).items():
        for method in _methods(records):
            cells = []
            for curve in ("deletion", "insertion"):
                own = area(records, method, curve)
                less = "" if method == "frozen" else str(difference(records, method, curve))
                cells += [f"{own.mean():.3f}", less]
            rows.append([f"{TITLES[name]}: {WORDS[method]}", *cells])
    return table(["order", "deletion", "less that of the frozen map", "insertion", "less that of the frozen map"], rows)


def baselines(found: Sequence[Record]) -> str:
    """Insertion less deletion, by baseline, against the frozen map."""
    rows = []
    for name, records in networks(found).items():
        for baseline in records[0]["areas"]:
            cells = [
                str(both(records, method, baseline)) if method in _methods(records) else ""
                for method in WORDS
                if method not in ("frozen", "silu")
            ]
            rows.append([f"{TITLES[name]}: {baseline}", *cells])
    return table(["absent parts", *(WORDS[m] for m in WORDS if m not in ("frozen", "silu"))], rows)


def agreement(found: Sequence[Record]) -> str:
    """Rank correlation between seeds, and with the same network before its training."""
    rows = []
    for record in (record for record in found if record["seed"] is None):
        own, before = (
            {method: np.array(values) for method, values in record[key].items()} for key in ("seeds", "untrained")
        )
        for method, values in own.items():
            less = "" if method == "frozen" else str(interval(values - own["frozen"]))
            cells = [f"{values.mean():.3f}", less, f"{before[method].mean():.3f}"]
            rows.append([f"{TITLES[record['network']]}: {WORDS[method]}", *cells])
    return table(["attribution", "between two seeds", "less that of the frozen map", "before and after training"], rows)


def carriers(found: Sequence[Record]) -> str:
    """What the choice of the carrier changes where there is one."""
    rows = []
    for name, records in networks(found).items():
        if "silu" in records[0]["like_frozen"]:
            median = _medians(records, "maps")
            changes = [str(difference(records, "silu", curve)) for curve in ("deletion", "insertion")]
            rows.append(
                [
                    TITLES[name],
                    f"{median('carriers_apart'):.2f}",
                    f"{median('carriers_cosine'):.2f}",
                    _mean(records, "like_frozen", "silu"),
                    *changes,
                ]
            )
    heads = ("\\|A − A'\\| / \\|A\\|", "cos(A, A')", "rank correlation", "deletion, A' less A", "insertion, A' less A")
    return table(["network", *heads], rows)


def area(records: Sequence[Record], method: str, curve: str, baseline: str | None = None) -> np.ndarray:
    """Areas (seeds, inputs) with one baseline, or their mean over all."""
    names = [baseline] if baseline else [*records[0]["areas"]]
    return np.mean([[record["areas"][b][method][curve] for record in records] for b in names], axis=0)


def difference(records: Sequence[Record], method: str, curve: str, baseline: str | None = None) -> Interval:
    """The area of an order less that of the frozen map's, at the same networks and inputs."""
    return interval(area(records, method, curve, baseline) - area(records, "frozen", curve, baseline))


def both(records: Sequence[Record], method: str, baseline: str) -> Interval:
    """Insertion less deletion of an order, less the same of the frozen map's: above zero where the order is better."""
    insertion, deletion = (
        area(records, method, curve, baseline) - area(records, "frozen", curve, baseline)
        for curve in ("insertion", "deletion")
    )
    return interval(insertion - deletion)


def _methods(records: Sequence[Record]) -> list[str]:
    there = next(iter(records[0]["areas"].values()))
    return [method for method in WORDS if method in there]


def _medians(records: Sequence[Record], part: str) -> Callable[[str], float]:
    return lambda key: float(np.median([record[part][key] for record in records]))


def _mean(records: Sequence[Record], part: str, key: str) -> str:
    return f"{np.mean([record[part][key] for record in records]):.2f}" if key in records[0][part] else "the same map"
