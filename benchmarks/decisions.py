"""The nearest other decision of digit networks, beside an attack with projected gradients."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import maxaffine
from maxaffine import _models as models
from maxaffine.data import load

from .measure import Failure, in_fresh_process

IMAGES, TIME_LIMIT = 24, 20
STARTS, STEPS, BISECTIONS, FARTHEST = 20, 100, 12, 0.5


def strided() -> nn.Sequential:
    """A convolution network whose windows of 3 by 3 overlap, with padding."""
    first = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(27, 16), nn.ReLU(), nn.Linear(16, 10))


NETWORKS = {
    "MLP 64-24x2-10": partial(models.mlp, (1, 8, 8), 10, widths=(24, 24)),
    "MLP 64-32x2-10": partial(models.mlp, (1, 8, 8), 10, widths=(32, 32)),
    "MLP 64-16x3-10": partial(models.mlp, (1, 8, 8), 10, widths=(16, 16, 16)),
    "CNN 3, max-pooling 3 by 2, fc16": strided,
}


def decisions() -> list[dict[str, Any]]:
    """One row per network, ready for JSON."""
    rows = []
    for title in NETWORKS:
        found = in_fresh_process(time_decisions, title)
        rows.append({"title": title} | ({"failure": found.reason} if isinstance(found, Failure) else found))
    return rows


def time_decisions(title: str) -> dict[str, Any]:
    """Distances, what is proved of them, and CPU seconds, of the first images that the network gets right."""
    digits = load("digits")
    torch.manual_seed(0)
    model = NETWORKS[title]()
    models.train(model, digits.train, epochs=60, seed=0, progress=False)
    x, labels = digits.test.inputs, digits.test.labels
    net = maxaffine.capture(model, x[:1])
    right = (net(x).argmax(1) == labels).nonzero()[:IMAGES, 0].tolist()
    maxaffine.partition.nearest_decision(net, x[right[:1]], time_limit=1)  # loads what is loaded once
    rows: dict[str, list[Any]] = {name: [] for name in ("distance", "lower", "proved", "seconds", "pgd", "pgd seconds")}
    for place in right:
        start = time.process_time()
        found = maxaffine.partition.nearest_decision(net, x[place : place + 1], time_limit=TIME_LIMIT, progress=False)
        middle = time.process_time()
        attacked = projected_gradients(model, x[place : place + 1])
        numbers = (found.distance, found.lower_bound, found.proved, middle - start, attacked)
        for name, number in zip(rows, (*numbers, time.process_time() - middle), strict=True):
            rows[name].append(number)
    return {"accuracy": float((net(x).argmax(1) == labels).double().mean())} | rows


def projected_gradients(model: nn.Module, x: Tensor) -> float:
    """The least radius at which an attack finds another class, by bisection."""
    low, high = 0.0, FARTHEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if attack(model, x, middle) else (middle, high)
    return high


def attack(model: nn.Module, x: Tensor, radius: float) -> bool:
    """Whether steps down the margin, from random starts, find another class within a radius."""
    own = model(x).argmax(1)
    z = x + radius * (2 * torch.rand(STARTS, *x.shape[1:]) - 1)
    for _ in range(STEPS):
        z = z.clamp(x - radius, x + radius).clamp(0, 1).requires_grad_()
        logits = model(z)
        others = logits.masked_fill(torch.arange(logits.shape[1]) == own, -torch.inf).amax(1)
        margin = logits[:, own[0]] - others
        if (margin < 0).any():
            return True
        (gradient,) = torch.autograd.grad(margin.sum(), z)
        z = z.detach() - radius / 8 * gradient.sign()
    return False
