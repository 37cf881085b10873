"""Train four small smooth networks, draw their maps, and write what was measured into the page that shows them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from examples.smooth_networks import byte, images, signals
from examples.smooth_networks.measuring import HEAD
from studies.page import renew, table

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The words after the command; those of the process by default.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.smooth_networks", description=__doc__)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of smooth-networks.md and of images/")
    kept = "folder of the trained weights; what is there is not trained again"
    parser.add_argument("--weights", type=Path, default=ROOT / "build" / "smooth-networks", help=kept)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pictures = options.docs / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    rows = [
        images.study(pictures, options.weights, "vit"),
        images.study(pictures, options.weights, "convnext"),
        byte.study(pictures, options.weights),
        signals.study(pictures, options.weights),
    ]
    measured = table(HEAD, [row.cells for row in rows])
    renew(options.docs / "smooth-networks.md", {"measured": measured})
    print(measured)


if __name__ == "__main__":
    main()
