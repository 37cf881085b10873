"""The mark of the library: the regions of a very small network."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

import maxaffine as ma

COLORS = ("#0072b2", "#56b4e9", "#009e73", "#f0e442", "#e69f00", "#d55e00", "#cc79a7")


def logo() -> Figure:
    """Partition a square and clip it to rounded corners.

    Returns:
        The figure, transparent around the mark.
    """
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    axes = torch.eye(2, dtype=torch.float64)
    found = ma.partition.plane(ma.capture(model, axes), origin=0 * axes[:1], basis=axes, extent=1.0)
    arrays = found.to_numpy()
    rings = np.split(arrays["vertices"][arrays["cell_corners"]], arrays["cell_starts"][1:-1])
    figure = Figure(figsize=(2, 2), facecolor="none")
    ax = figure.add_axes((0, 0, 1, 1))
    colors = [COLORS[number % len(COLORS)] for number in range(len(rings))]
    cells = PolyCollection(rings, facecolors=colors, edgecolors="white", linewidths=2.5)
    ax.add_collection(cells)
    ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    ax.axis("off")
    shape = "round,pad=0,rounding_size=0.35"
    cells.set_clip_path(FancyBboxPatch((-1, -1), 2, 2, boxstyle=shape, transform=ax.transData))
    return figure
