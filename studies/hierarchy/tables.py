"""The tables of the page, in markdown, from the stored runs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import mean, stdev
from typing import Any

from studies.page import table

from .runs import DATA, EPOCHS, NETWORKS

Record = dict[str, Any]
TOLERANCE = 0.05


def all_tables(records: Sequence[Record]) -> dict[str, str]:
    """Every table."""
    return {"regions": regions(records), "operators": operators(records), "settling": settling(records)}


def regions(records: Sequence[Record]) -> str:
    """The regions of the narrow networks, operator by operator, before and after the training."""
    body = []
    for data in DATA:
        chosen = _chosen(records, data, "narrow MLP")
        for depth in range(_depth(chosen)):
            both = [[_level(each[moment], depth)["together"] for each in chosen] for moment in ("untrained", "trained")]
            cells = [
                _spread([each[part] for each in found], digits)
                for part, digits in (("regions", 0), ("entropy", 2), ("purity", 2), ("pair_purity", 2))
                for found in both
            ]
            body.append(
                [data, f"1 to {depth + 1}", *(f"{a} → {b}" for a, b in zip(cells[::2], cells[1::2], strict=True))]
            )
    return table(
        ["data", "operators", "occupied regions", "entropy (bits)", "purity", "pair purity"], body, numbers=False
    )


def operators(records: Sequence[Record]) -> str:
    """Each operator by itself, before and after the training."""
    body = []
    for data, network, chosen in _groups(records):
        if network == "narrow MLP":
            continue
        for depth in range(_depth(chosen)):
            before, after = ([_level(each[moment], depth) for each in chosen] for moment in ("untrained", "trained"))
            body.append(
                [
                    data,
                    network,
                    f"{depth + 1}: {'ReLU' if after[0]['pieces'] == 2 else 'max-pool'}, {after[0]['units']:,} units",
                    _change(before, after, lambda level: level["itself"]["regions"], 0),
                    _change(before, after, lambda level: level["itself"]["alone"], 0),
                    _change(before, after, lambda level: level["few"]["entropy"], 2),
                    _change(before, after, lambda level: level["few"]["pair_purity"], 2),
                ]
            )
    head = ["data", "network", "operator", "occupied regions", "inputs alone", "8 units: entropy (bits)"]
    return table([*head, "8 units: pair purity"], body, numbers=False)


def settling(records: Sequence[Record]) -> str:
    """How soon the codes settle."""
    body = []
    for data, network, chosen in _groups(records):
        first, after_one, settled = [], [], []
        for record in chosen:
            for row in record["drift"].values():
                to_last = [distances[-1] for distances in row]
                first.append(to_last[0])
                after_one.append(to_last[1])
                settled.append(1 + max((e for e, distance in enumerate(to_last) if distance > TOLERANCE), default=-1))
        accuracies = [_spread([100 * each["accuracy"][epoch] for each in chosen], 1) for epoch in (1, -1)]
        moments = [f"{min(found):.2f} to {max(found):.2f}" for found in (first, after_one)]
        body.append([data, network, *accuracies, *moments, f"{min(settled)} to {max(settled)} of {EPOCHS[data]}"])
    head = ["data", "network", "accuracy after epoch 1 (%)", "at the end (%)", "distance to the end: untrained"]
    return table([*head, "after epoch 1", f"epoch from which it is below {TOLERANCE}"], body, numbers=False)


def _groups(records: Sequence[Record]) -> Iterable[tuple[str, str, list[Record]]]:
    for data in DATA:
        for network in NETWORKS:
            if chosen := _chosen(records, data, network):
                yield data, network, chosen


def _chosen(records: Sequence[Record], data: str, network: str) -> list[Record]:
    return [each for each in records if (each["run"]["data"], each["run"]["network"]) == (data, network)]


def _depth(chosen: Sequence[Record]) -> int:
    return len(chosen[0]["trained"]) if chosen else 0


def _level(operators: dict[str, Any], depth: int) -> dict[str, Any]:
    return list(operators.values())[depth]


def _change(before: Sequence[Record], after: Sequence[Record], part: Callable[[Record], Any], digits: int) -> str:
    return " → ".join(_spread([part(level) for level in levels], digits) for levels in (before, after))


def _spread(values: Sequence[float | None], digits: int) -> str:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values) or not numbers:
        return "–"
    spread = f" ± {stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{mean(numbers):.{digits}f}{spread}"
