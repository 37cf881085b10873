"""Draw the figure of docs/volumes.md: what a network on volumes says by distance from the middle, and the rest."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

import maxaffine as ma
from examples.volumes.fields import Universe, sample
from examples.volumes.network import network, train

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def main() -> None:
    """Train on crops whose answer goes by the tide too, split the templates of new ones, and draw one."""
    torch.set_num_threads(1)
    known, new = sample(Universe(), 60, 80, 0), sample(Universe(), 4, 80, 1)
    x, y = torch.from_numpy(known.inputs), torch.from_numpy(known.ellipsoidal).float()
    model = network(0)
    train(model, x / x.std(), y - y.mean(), epochs=10, seed=0)
    shells = (
        ma.capture(model, x[:2]).templates(torch.from_numpy(new.inputs[:100]) / x.std(), names=["log mass"]).by_shells()
    )
    print(shells, f"variance share {float(shells.variance_share().median()):.2f}", sep="\n")
    figure = Figure(figsize=(8.6, 8.5))
    shells.plot(ax=figure.add_axes((0, 0, 1, 1)))
    figure.savefig(IMAGES / "volumes.png", dpi=110)


if __name__ == "__main__":
    main()
