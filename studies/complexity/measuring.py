"""One training: accuracy, local complexity and regions crossed, at logarithmically spaced epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine.data import load

LABELS = ("true", "random")
SEEDS = (0, 1)
EPOCHS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)
TRAINED, SAMPLES, PAIRS = 800, 48, 12
RADIUS, DIRECTIONS = 0.1, 20
WIDTH, BATCH, RATE = 128, 50, 1e-3


@dataclass(frozen=True)
class Data:
    """The digits as vectors, with the labels that are trained on."""

    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor


def digits(labels: str, seed: int) -> Data:
    """The first digits of the training data, with their own labels or with those of a random permutation."""
    data = load("digits")
    chosen = torch.randperm(len(data.train.inputs), generator=torch.Generator().manual_seed(seed))[:TRAINED]
    own = data.train.labels[chosen]
    shuffle = torch.randperm(TRAINED, generator=torch.Generator().manual_seed(seed + 1))
    return Data(
        data.train.inputs[chosen].flatten(1),
        own if labels == "true" else own[shuffle],
        data.test.inputs.flatten(1),
        data.test.labels,
    )


def measured(labels: str, seed: int) -> list[dict[str, Any]]:
    """Train once on digits with "true" or "random" labels, and measure at each of the epochs: a row for each."""
    data = digits(labels, seed)
    torch.manual_seed(seed)
    layers = [nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    rows = []
    for epoch in range(EPOCHS[-1] + 1):
        if epoch in EPOCHS:
            rows.append({"labels": labels, "seed": seed, "epoch": epoch} | _measures(model, data, seed))
        for part in torch.randperm(TRAINED).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train[part]), data.labels[part]).backward()
            optimizer.step()
    return rows


def _measures(model: nn.Module, data: Data, seed: int) -> dict[str, float]:
    net = ma.capture(model.eval(), data.train[:2])
    generator = torch.Generator().manual_seed(seed + 2)
    low, high = data.train.amin(0), data.train.amax(0)
    noise = low + (high - low) * torch.rand(SAMPLES, 64, generator=generator)
    with torch.no_grad():
        found = {
            "train_accuracy": float((model(data.train).argmax(1) == data.labels).float().mean()),
            "test_accuracy": float((model(data.test).argmax(1) == data.test_labels).float().mean()),
        }
    for name, x in {"train": data.train[:SAMPLES], "test": data.test[:SAMPLES], "noise": noise}.items():
        found[f"complexity_{name}"] = ma.partition.local_complexity(net, x, RADIUS, directions=DIRECTIONS).mean
    same, other = (_pairs(data, generator, alike) for alike in (True, False))
    found |= _crossed(net, "same", same) | _crossed(net, "different", other)
    found |= _crossed(net, "near", _segments(data.train, generator)) | _crossed(
        net, "away", _segments(noise, generator)
    )
    return found


def _pairs(data: Data, generator: torch.Generator, alike: bool) -> list[tuple[Tensor, Tensor]]:
    """Training digits of one class as trained on, or of two."""
    pairs: list[tuple[Tensor, Tensor]] = []
    while len(pairs) < PAIRS:
        a, b = torch.randint(TRAINED, (2,), generator=generator).tolist()
        if a != b and bool(data.labels[a] == data.labels[b]) == alike:
            pairs.append((data.train[a : a + 1], data.train[b : b + 1]))
    return pairs


def _segments(x: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Segments of length one around samples, in random directions."""
    steps = torch.randn(PAIRS, x.shape[1], generator=generator)
    steps = steps / steps.norm(dim=1, keepdim=True) / 2
    return [(x[n : n + 1] - steps[n : n + 1], x[n : n + 1] + steps[n : n + 1]) for n in range(PAIRS)]


def _crossed(net: ma.SplineNetwork, name: str, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Means over exact lines: breakpoints, breakpoints per unit of length, and decision changes."""
    starts, ends = (torch.cat(items) for items in zip(*pairs, strict=True))
    found = ma.partition.crossed_regions(net, starts, ends, progress=False)
    return {
        f"crossed_{name}": float(found.breakpoints.double().mean()),
        f"density_{name}": float(found.density.mean()),
        f"decisions_{name}": float(found.decisions.double().mean()),
    }


def runs() -> list[tuple[str, int]]:
    """Every training of the study."""
    return [(labels, seed) for seed in SEEDS for labels in LABELS]
