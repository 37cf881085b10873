"""Decoders of Fashion-MNIST with a planted imbalance, nine tenths sneakers: classes and coverage by way of sampling."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

import maxaffine as ma
from maxaffine.data import load

SNEAKER, PLANTED = 7, 0.9
IMAGES, EPOCHS, BATCH, BETA = 6000, 30, 128, 0.5
DRAWN, NEAREST = 2000, 3
WAYS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "even": {},
    "rho -1": {"rho": -1.0},
    "rho -0.2": {"rho": -0.2},
    "rho 0.2": {"rho": 0.2},
    "rho 1": {"rho": 1.0},
}


def measure(seed: int, latents: int) -> dict[str, Any]:
    """Train one variational autoencoder, and judge samples drawn in each way by a classifier trained on all classes."""
    torch.manual_seed(seed)
    images, real = _planted(), _test()
    decoder = _trained(latents, images)
    net = ma.capture(decoder, torch.zeros(2, latents), output="pre_activation")
    classifier = _classifier(seed)
    prior = Normal(torch.zeros(latents), 1.0)
    found = {}
    for way, options in WAYS.items():
        x, effective = _draw(net, prior, options, seed)
        with torch.no_grad():
            features, logits = _ends(classifier, x)
            truth = _ends(classifier, real)[0]
        shares = torch.bincount(logits.argmax(1), minlength=10).double() / len(x)
        found[way] = {
            "sneakers": float(shares[SNEAKER]),
            "classes": float((-(shares * shares.clamp_min(1e-12).log()).sum()).exp()),
            "effective": effective,
        } | _judged(truth, features)
    return {"ways": found}


def _draw(net: ma.SplineNetwork, prior: Normal, options: dict[str, Any] | None, seed: int) -> tuple[Tensor, float]:
    """Pictures (DRAWN, 784), and the effective share of the candidates."""
    options = {"rho": 0.0} if options is None else options  # the prior as it is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a small effective sample, which is recorded
        drawn = ma.generators.sample(net, prior, DRAWN, seed=seed, candidates=10 * DRAWN, head=True, **options)
    return drawn.x.flatten(1), drawn.effective_sample_size / drawn.candidates


@cache
def _garments() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = load("fashion-mnist")
    parts = [torch.as_tensor(array) for split in (data.train, data.test) for array in (split.inputs, split.labels)]
    return parts[0].flatten(1), parts[1], parts[2].flatten(1), parts[3]


def _planted() -> Tensor:
    """Training images, nine tenths of which are sneakers, the rest of all other classes."""
    x, y, _, _ = _garments()
    sneakers, rest = ((y == SNEAKER).nonzero()[:, 0], (y != SNEAKER).nonzero()[:, 0])
    counts = int(IMAGES * PLANTED), IMAGES - int(IMAGES * PLANTED)
    return x[torch.cat([part[torch.randperm(len(part))[:n]] for part, n in zip((sneakers, rest), counts, strict=True)])]


def _test() -> Tensor:
    """Held-out images of all classes, evenly."""
    return _garments()[2][:DRAWN]


def _trained(latents: int, images: Tensor) -> nn.Module:
    """The decoder of a variational autoencoder, from z to pixels in [0, 1]."""
    encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 2 * latents))
    decoder = nn.Sequential(nn.Linear(latents, 64), nn.ReLU(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 784))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    for _ in range(EPOCHS):
        for rows in images[torch.randperm(len(images))].split(BATCH):
            mean, log_variance = encoder(rows).chunk(2, 1)
            z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            lost = F.binary_cross_entropy_with_logits(decoder(z), rows, reduction="sum")
            divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
            optimizer.zero_grad()
            ((lost + BETA * divergence) / len(rows)).backward()
            optimizer.step()
    return nn.Sequential(decoder, nn.Sigmoid()).eval()


@cache
def _classifier(seed: int) -> nn.Sequential:
    """A classifier of all ten classes as they are, by which samples are judged."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1000 + seed)
        x, y, _, _ = _garments()
        model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(3):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    return model.eval()


def _ends(model: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits."""
    features = model[:-1](x)
    return features, model[-1:](features)


def _judged(real: Tensor, made: Tensor) -> dict[str, float]:
    """Precision and recall by third nearest neighbors (Kynkaanniemi et al. 2019), and coverage (Naeem et al. 2020)."""
    # A sample that came several times has itself for a neighbor, at no distance; so each counts once.
    made = made.unique(dim=0)
    across = torch.cdist(real, made)
    radius = [torch.cdist(part, part).kthvalue(NEAREST + 1, dim=1).values for part in (real, made)]
    return {
        "precision": float((across <= radius[0][:, None]).any(0).double().mean()),
        "recall": float((across <= radius[1]).any(1).double().mean()),
        "coverage": float((across <= radius[0][:, None]).any(1).double().mean()),
    }
