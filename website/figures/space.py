"""The picture of all regions of a network: their outlines, how steep it is on each, and the decision boundary."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import nn

import maxaffine as ma

SIDE = 2.0
STEPS = 1000


def regions() -> Figure:
    """Train a small network to tell a ring from the rest and draw its regions.

    Returns:
        The figure.
    """
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)).double()
    places = SIDE * (2 * torch.rand(4000, 2, dtype=torch.float64) - 1)
    target = (places.norm(dim=1, keepdim=True) - 1.1).abs().lt(0.4).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(module(places), target).backward()
        optimizer.step()
    net = ma.capture(module, places[:1])
    found = ma.partition.regions(net, (-SIDE, SIDE))
    steepest = ma.partition.lipschitz(net, (-SIDE, SIDE))
    shape = found.topology()
    figure = Figure(figsize=(9.6, 4.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    # By what the network says in the middle of each: colors by number would differ from processor to processor.
    for patch, value in zip(found.plot(left).patches, net(found.points)[:, 0].tolist(), strict=True):
        patch.set(facecolor="#e69f00" if value > 0 else "#56b4e9", alpha=0.5)
    slopes = torch.as_tensor(found.affine_map().slopes).reshape(len(found), 2).norm(dim=1)
    for patch, slope in zip(found.plot(right, linewidth=0.3).patches, slopes.tolist(), strict=True):
        patch.set(facecolor=(0.0, 0.35, 0.65, slope / steepest.upper), alpha=None)
    axis = torch.linspace(-SIDE, SIDE, 400, dtype=torch.float64)
    values = module(torch.cartesian_prod(axis, axis)).detach().reshape(400, 400).T
    right.contour(axis, axis, values, levels=[0.0], colors="black", linewidths=1.5)
    right.plot(*steepest.point.tolist(), "*", color="#d55e00", markersize=14)
    words = f"steepest at the star: {steepest.lower:.4g}; Betti numbers of the boundary {shape.betti}"
    right.set_title(words, fontsize=9)
    for ax in (left, right):
        ax.set(xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE), xticks=[], yticks=[])
    return figure
