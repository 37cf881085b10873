"""Run what has no results yet, then write the tables of the page and draw its figures: ``make study-distance``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from maxaffine._files import replacing
from maxaffine.data import DataSet, load
from studies.distance import figures, grid, held_out, network, photographs, planted, tables
from studies.page import renew

ROOT = Path(__file__).resolve().parents[2]
RESULTS, FIGURES = ROOT / "studies/distance/records", ROOT / "docs/studies/distance"
WEIGHTS = ROOT / "build/studies/distance"
PAGE = ROOT / "docs/code-distance.md"
SEEDS = 3


def main() -> int:
    """Run the parts in turn; each is kept in a file of its own, so that the study goes on where it was stopped."""
    parser = argparse.ArgumentParser(prog="python -m studies.distance", description=__doc__)
    parser.add_argument("--again", nargs="*", default=[], metavar="PART", help="parts to measure anew, e.g. cnn-0")
    parser.add_argument("--report-only", action="store_true", help="run nothing, renew tables and figures")
    arguments = parser.parse_args()
    data = _shuffled(load("fashion-mnist"))
    if not arguments.report_only:
        parts = _parts(data)
        if unknown := set(arguments.again) - set(parts):
            parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
        for name, run in parts.items():
            file = RESULTS / f"{name}.json"
            if name in arguments.again or not file.exists():
                print(name, flush=True)
                _write(file, run())
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))}
    figures.draw(results, FIGURES)
    titles = {name: operator["title"] for name, operator in results["cnn-0"]["operators"].items()}
    grid.draw(results["neighbors"], titles, data, FIGURES / "neighbors.png")
    renew(PAGE, tables.all_tables(results))
    return 0


def _parts(data: DataSet) -> dict[str, Callable[[], dict[str, Any]]]:
    parts: dict[str, Callable[[], dict[str, Any]]] = {}
    for seed in range(SEEDS):
        for name in ("cnn", "mlp"):
            weights = WEIGHTS / f"{name}-{seed}.safetensors"
            parts[f"{name}-{seed}"] = partial(network.study, name, seed, data, weights)
    parts["neighbors"] = partial(grid.study, 0, data, WEIGHTS / "cnn-0.safetensors")
    parts["photographs"] = partial(photographs.study, data)
    for seed in range(SEEDS):
        weights = WEIGHTS / f"held-out-{seed}.safetensors"
        parts[f"held-out-{seed}"] = partial(held_out.study, "cnn", seed, data, weights)
    for seed in range(SEEDS):
        weights = WEIGHTS / f"planted-{seed}.safetensors"
        parts[f"planted-{seed}"] = partial(planted.study, seed, data, weights)
    return parts


def _shuffled(data: DataSet) -> DataSet:
    """The data set with its training images in one random order, the same at every run."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    return DataSet(data.name, data.train.take(order), data.test, data.class_names)


def _write(file: Path, numbers: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as fresh:
        fresh.write_text(json.dumps(_rounded(numbers), indent=1) + "\n")


def _rounded(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _rounded(value) for key, value in item.items()}
    if isinstance(item, list):
        return [_rounded(value) for value in item]
    return round(item, 5) if isinstance(item, float) else item


if __name__ == "__main__":
    sys.exit(main())
