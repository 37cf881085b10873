"""What the numbers look like: the nearest training images of a few test images, before and after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from torch import nn

import maxaffine as ma
from maxaffine.data import DataSet
from studies.distance.network import FEW, trained

# The first test image of every other class, and the ReLUs of the convolutions and of the linear layer.
CLASSES, DEPTHS, NEAREST = (0, 2, 4, 6, 8), ("2", "6", "10"), 4
OTHER_CLASS = "#D55E00"


def study(seed: int, data: DataSet, weights: Path) -> dict[str, Any]:
    """Look up a few test images before and after training."""
    labels = data.test.labels.tolist()
    queries = [labels.index(label) for label in CLASSES]
    fresh, model = trained("cnn", seed, data, weights)
    return {"queries": queries, "before": _nearest(fresh, data, queries), "after": _nearest(model, data, queries)}


def _nearest(model: nn.Module, data: DataSet, queries: list[int]) -> dict[str, list[list[int]]]:
    net = ma.capture(model, data.test.inputs[:2])
    found = ma.search.neighbors(
        net, data.test.inputs[queries], data.train.inputs[:FEW], NEAREST, DEPTHS, progress=False
    )
    return {name: near.ids.tolist() for name, near in found.items()}


def draw(found: dict[str, Any], titles: dict[str, str], data: DataSet, path: Path) -> None:
    """Write the picture."""
    columns = 1 + len(DEPTHS) * (NEAREST + 1)
    figure = plt.figure(figsize=(10.5, 8.8), layout="constrained")
    parts: Any = figure.subfigures(2, 1)
    for part, (when, title) in zip(parts, {"before": "untrained", "after": "trained"}.items(), strict=True):
        part.suptitle(f"{title} CNN", fontsize=11, x=0.01, ha="left")
        widths = [1.0] + ([0.25] + [1.0] * NEAREST) * len(DEPTHS)
        grid = part.add_gridspec(len(found["queries"]) + 1, columns, width_ratios=widths, height_ratios=[0.3] + [1] * 5)
        _heading(part, grid[0, 0], "test image")
        for place, name in enumerate(DEPTHS):
            first = 2 + place * (NEAREST + 1)
            _heading(part, grid[0, first : first + NEAREST], f"nearest at {titles[name]}")
            for row, ids in enumerate(found[when][name]):
                label = int(data.test.labels[found["queries"][row]])
                for i, number in enumerate(ids):
                    other = int(data.train.labels[number]) != label
                    _picture(part, grid[row + 1, first + i], data.train.inputs[number, 0], other)
        for row, number in enumerate(found["queries"]):
            _picture(part, grid[row + 1, 0], data.test.inputs[number, 0], False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _heading(part: Any, place: Any, text: str) -> None:
    axis = part.add_subplot(place)
    axis.axis("off")
    axis.text(0.5, 0, text, ha="center", va="bottom", fontsize=9)


def _picture(part: Any, place: Any, image: Any, framed: bool) -> None:
    axis = part.add_subplot(place)
    axis.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(framed)
        side.set_edgecolor(OTHER_CLASS)
        side.set_linewidth(2.5)
