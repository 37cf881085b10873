"""Train the layer and K-means on the same patches, and renew the page that compares them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from examples.vector_quantization.experiment import KINDS, agreement, compare, table
from examples.vector_quantization.figure import draw
from maxaffine.data import load
from studies.page import renew

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHOWN = 8


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The words after the command; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.vector_quantization", description=__doc__)
    parser.add_argument("--data", default="fashion-mnist", help="name of a data set of gray images")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 on")
    parser.add_argument("--patches", type=int, default=20_000, help="training patches; half as many are tested on")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of vector-quantization.md and of images/")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = [
        (kind, [compare(options.data, kind, seed, options.patches) for seed in range(options.seeds)]) for kind in KINDS
    ]
    images = options.docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    draw(results, load(options.data).test.inputs[:SHOWN, 0], images / "vector-quantization.png")
    tables = {"distortion": table(results), "agreement": agreement(results)}
    renew(options.docs / "vector-quantization.md", tables)
    print("\n".join(tables.values()))


if __name__ == "__main__":
    main()
