"""The pictures of all regions of a network, with its decision boundary, and of how steep networks are on theirs."""

from __future__ import annotations

from functools import cache

import torch
from matplotlib.figure import Figure
from torch import nn

import maxaffine as ma

SIDE = 2.0
STEPS = 1000


def regions() -> Figure:
    """Draw the regions of a small network that tells a ring from the rest.

    Returns:
        The figure.
    """
    module, net = _ring()
    found = ma.partition.regions(net, (-SIDE, SIDE))
    figure = Figure(figsize=(4.9, 5.0), layout="constrained")
    ax = figure.subplots()
    # By what the network says in the middle of each: colors by number would differ from processor to processor.
    for patch, value in zip(found.plot(ax).patches, net(found.points)[:, 0].tolist(), strict=True):
        patch.set(facecolor="#e69f00" if value > 0 else "#56b4e9", alpha=0.5)
    axis = torch.linspace(-SIDE, SIDE, 400, dtype=torch.float64)
    values = module(torch.cartesian_prod(axis, axis)).detach().reshape(400, 400).T
    ax.contour(axis, axis, values, levels=[0.0], colors="black", linewidths=1.8)
    ax.set(xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE), xticks=[], yticks=[])
    betti = found.topology().betti
    ax.set_title(f"{len(found)} regions; Betti numbers of the decision boundary {betti}", fontsize=9)
    return figure


def lipschitz() -> Figure:
    """Draw how steep that network is on each region, and another of five inputs, as their results draw it.

    Returns:
        The figure.
    """
    torch.manual_seed(0)
    layers = [nn.Linear(5, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 1)]
    five = ma.capture(nn.Sequential(*layers).double(), torch.zeros(1, 5, dtype=torch.float64))
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    ma.partition.lipschitz(_ring()[1], (-SIDE, SIDE)).plot(left)
    ma.partition.lipschitz(five, (-1, 1)).plot(right)
    right.locator_params(axis="x", nbins=5)
    right.margins(y=0.15)
    right.legend(loc="upper left", frameon=False)
    left.set_title("two inputs", fontsize=9)
    right.set_title("five inputs", fontsize=9)
    return figure


@cache
def _ring() -> tuple[nn.Module, ma.SplineNetwork]:
    """A small network, trained to tell a ring from the rest."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)).double()
    places = SIDE * (2 * torch.rand(4000, 2, dtype=torch.float64) - 1)
    target = (places.norm(dim=1, keepdim=True) - 1.1).abs().lt(0.4).double()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(module(places), target).backward()
        optimizer.step()
    return module, ma.capture(module, places[:1])
