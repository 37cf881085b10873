"""The transfers: a trained network, and the small labeled set that a classifier is to be made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.real_networks.published import efficientnet_lite0
from maxaffine import data, models

WEIGHTS = Path(__file__).resolve().parents[2] / "build" / "studies" / "curvature"
FITTED, JUDGED, TESTED = 200, 100, 150
SIDE = 64  # what EfficientNet sees
TRAINED, EPOCHS = 5_000, 3  # of the network for Fashion-MNIST


@dataclass(frozen=True)
class Transfer:
    """A network and data.

    Attributes:
        network: From a seed to a module of raw images in [0, 1].
        features: The operator whose output the classifiers take.
        own: Whether the seed makes another network, so that features are not to be kept.
        target: The data.
    """

    network: Callable[[int], nn.Module]
    features: str
    own: bool
    target: str


class Prepared(nn.Module):
    """Small gray images as EfficientNet-Lite takes photographs: larger, in three channels, (bytes - 127) / 128."""

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 1, H, W)."""
        large = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return (large.expand(-1, 3, -1, -1) * 255 - 127) / 128


class Enlarged(nn.Module):
    """Digits of 8 x 8 pixels as images of 28 x 28."""

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 1, 8, 8)."""
        return F.interpolate(x, size=(28, 28), mode="bilinear", align_corners=False)


def published(seed: int) -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, whatever the seed."""
    return nn.Sequential(Prepared(), efficientnet_lite0()).eval()


def garments(seed: int) -> nn.Module:
    """A small CNN trained on Fashion-MNIST."""
    network, file = models.build("cnn", (1, 28, 28), 10, seed=seed), WEIGHTS / f"garments-{seed}.pt"
    if file.exists():
        network.load_state_dict(torch.load(file, weights_only=True))
    else:
        part = data.load("fashion-mnist").train.take(slice(0, TRAINED))
        models.train(network, part, epochs=EPOCHS, seed=seed, progress=False)
        WEIGHTS.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), file)
    return nn.Sequential(Enlarged(), network).eval()


TRANSFERS = {
    "efficientnet-digits": Transfer(published, "1.view", False, "digits"),
    "efficientnet-fashion": Transfer(published, "1.view", False, "fashion-mnist"),
    "fashion-digits": Transfer(garments, "1.10", True, "digits"),
}


def samples(target: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The images and labels that are divided by the seed, and those of the test, the same for all seeds."""
    found = data.load(target)
    generator = torch.Generator().manual_seed(0)
    pairs = ((found.train, FITTED + JUDGED), (found.test, TESTED))
    chosen = [part.take(torch.randperm(len(part), generator=generator)[:count]) for part, count in pairs]
    pool, test = ((part.inputs, part.labels) for part in chosen)
    return pool, test
