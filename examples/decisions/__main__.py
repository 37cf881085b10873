"""Draw the figure of docs/decisions.md: a digit, the smallest change that makes it another, and what that gives."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

import maxaffine as ma
from maxaffine.data import load
from maxaffine.models import build, train

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def main() -> None:
    """Train on the digits, ask, and draw the answer."""
    torch.set_num_threads(1)
    digits = load("digits")
    model = build("mlp", digits.input_shape, digits.classes, widths=(24, 24), seed=0)
    train(model, digits.train, epochs=30, seed=0, progress=False)
    x = digits.test.inputs[digits.test.labels == 3][:1]
    found = ma.partition.nearest_decision(ma.capture(model, x), x)
    print(found, found.verify(model), found.parts, sep="\n")
    figure = Figure(figsize=(7, 2.5))
    found.plot(figure.add_axes((0, 0, 1, 1)))
    figure.savefig(IMAGES / "decision.png", dpi=120)


if __name__ == "__main__":
    main()
