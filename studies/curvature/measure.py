"""One cell: beta and the penalty chosen on validation data, and three classifiers judged once on the test data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import maxaffine as ma
from maxaffine import curvature
from maxaffine._curvature.probe import fit_probe

from .transfers import FITTED, TRANSFERS, WEIGHTS, Transfer, samples

BETAS = (0.7, 0.8, 0.9, 0.95, 0.99)
PENALTIES = (1e-3, 1e-2, 1e-1)
NOISE = 0.1  # standard deviation, of images in [0, 1]
ATTACKED, RADIUS, STEPS = 20, 8 / 255, 5
RATES, PASSES = (1e-3, 1e-2), 100  # of the last layer's training
CLASSES = 10


@dataclass(frozen=True)
class Features:
    """What the softened networks of a transfer make of its images; kept on disk where the network is published."""

    name: str
    transfer: Transfer
    net: ma.SplineNetwork
    images: dict[str, Tensor]

    def soft(self, beta: float) -> nn.Module:
        """The network up to its features."""
        return curvature.soften(self.net.part(until=self.transfer.features), beta).requires_grad_(False)

    def of(self, which: str, beta: float) -> Tensor:
        """Features (N, d) of some images."""
        file = WEIGHTS / f"{self.name}-{which}-{len(self.images[which])}-{beta:g}.pt"
        if not self.transfer.own and file.exists():
            return torch.load(file, weights_only=True)
        with torch.no_grad():
            soft = self.soft(beta)
            found = torch.cat([soft(batch).flatten(1) for batch in self.images[which].split(50)])
        if not self.transfer.own:
            WEIGHTS.mkdir(parents=True, exist_ok=True)
            torch.save(found, file)
        return found


def measure(name: str, seed: int) -> dict[str, Any]:
    """What the classifiers of one transfer and one seed are right about."""
    transfer = TRANSFERS[name]
    (pool, labels), (tested, truth) = samples(transfer.target)
    noise = NOISE * torch.randn(tested.shape, generator=torch.Generator().manual_seed(1))
    images = {"pool": pool, "test": tested, "noisy": (tested + noise).clamp(0, 1)}
    model, net = _captured(name, seed if transfer.own else 0)
    found = Features(name, transfer, net, images)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    fit, judge = order[:FITTED], order[FITTED:]

    def probe(beta: float, penalty: float) -> tuple[float, nn.Linear]:
        rows = found.of("pool", beta)
        made = fit_probe(rows[fit], labels[fit], CLASSES, penalty)
        return _share(made(rows[judge]), labels[judge]), made

    # The penalty that is best for the network as it is serves every beta; of equal ones the first.
    penalty = max(PENALTIES, key=lambda item: probe(1.0, item)[0])
    plain = probe(1.0, penalty)
    grid = {beta: probe(beta, penalty) for beta in BETAS}
    best = max((1.0, *reversed(BETAS)), key=lambda beta: (plain if beta == 1 else grid[beta])[0])
    last = _last_layer(found, fit, judge, labels, model)
    heads = {"probe": (1.0, plain[1]), "tuned": (best, plain[1] if best == 1 else grid[best][1]), "last": (1.0, last)}
    return {
        "beta": best,
        "penalty": penalty,
        "validation": {"1": plain[0]} | {f"{beta:g}": grid[beta][0] for beta in BETAS},
        "right": {kind: _judged(found, beta, head, truth) for kind, (beta, head) in heads.items()},
    }


@cache
def _captured(name: str, seed: int) -> tuple[nn.Module, ma.SplineNetwork]:
    """The network of a transfer, and its spline form."""
    model = TRANSFERS[name].network(seed)
    return model, ma.capture(model, samples(TRANSFERS[name].target)[0][0][:2])


def _judged(found: Features, beta: float, head: nn.Linear, truth: Tensor) -> dict[str, list[int]]:
    """Which test inputs one classifier is right about, as they are, with noise, and after an attack."""
    with torch.no_grad():
        right = {which: (head(found.of(which, beta)).argmax(1) == truth).int().tolist() for which in ("test", "noisy")}
    whole = nn.Sequential(found.soft(beta), nn.Flatten(), head).eval()
    return right | {"attacked": _withstood(whole, found.images["test"][:ATTACKED], truth[:ATTACKED])}


def _withstood(whole: nn.Module, images: Tensor, truth: Tensor) -> list[int]:
    """Which images a classifier is right about after projected gradient descent in the maximum norm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # foolbox asks scipy for a name that has moved
        from foolbox.attacks import LinfPGD
        from foolbox.models.pytorch import PyTorchModel
    attack = LinfPGD(rel_stepsize=0.3, steps=STEPS, random_start=False)
    fooled = attack(PyTorchModel(whole, bounds=(0, 1), device="cpu"), images, truth, epsilons=RADIUS)[2]
    return (~fooled).int().tolist()


def _last_layer(found: Features, fit: Tensor, judge: Tensor, labels: Tensor, model: nn.Module) -> nn.Linear:
    """The last layer trained further by Adam, at the rate that validates best; of a thousand classes, from zero."""
    rows, made = found.of("pool", 1.0), []
    old = next(part for part in reversed(list(model.modules())) if isinstance(part, nn.Linear))
    for rate in RATES:
        head, same = nn.Linear(rows.shape[1], CLASSES), old.out_features == CLASSES
        with torch.no_grad():
            head.weight.copy_(old.weight if same else torch.zeros(head.weight.shape))
            head.bias.copy_(old.bias if same else torch.zeros(CLASSES))
        solver = torch.optim.Adam(head.parameters(), lr=rate)
        for _ in range(PASSES):
            solver.zero_grad()
            F.cross_entropy(head(rows[fit]), labels[fit]).backward()
            solver.step()
        made.append((_share(head(rows[judge]), labels[judge]), head))
    return max(made, key=lambda item: item[0])[1].requires_grad_(False)


def _share(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())
