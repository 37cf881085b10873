"""The decision boundary of one network as its codes soften."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import nn

import maxaffine as ma
from maxaffine._models.randomness import fixed_seed

INK, SIDES = "#1b2230", ("#e69f00", "#0072b2")
BETAS = (1.0, 0.9, 0.6, 0.0)


def boundary() -> Figure:
    """Decision boundaries at four betas.

    Returns:
        The figure.
    """
    model = _rings()
    net = ma.capture(model, torch.zeros(1, 2))
    line = torch.linspace(-2.2, 2.2, 321)
    plane = torch.cartesian_prod(line, line)
    figure = Figure(figsize=(9.6, 2.7), layout="constrained")
    for ax, beta in zip(figure.subplots(1, len(BETAS)), BETAS, strict=True):
        with torch.no_grad():
            score = ma.curvature.soften(net, beta)(plane).view(len(line), len(line)).T
        ax.contourf(line, line, score, levels=[-1e9, 0, 1e9], colors=SIDES, alpha=0.3)
        ax.contour(line, line, score, levels=[0], colors=INK, linewidths=1.6)
        ax.set(xticks=[], yticks=[], aspect="equal")
        ax.set_title("β = 1, the network" if beta == 1 else f"β = {beta:g}", fontsize=10)
    return figure


def _rings() -> nn.Module:
    """A network of two inputs that tells an inner ring from an outer one."""
    with fixed_seed(0, torch.device("cpu")):
        model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
        x = 4.4 * torch.rand(400, 2) - 2.2
    inside = (x.norm(dim=1) < 1.3 + 0.45 * torch.cos(3 * torch.atan2(x[:, 1], x[:, 0]))).float()[:, None]
    solver = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(400):
        solver.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x), inside).backward()
        solver.step()
    return model.eval()
