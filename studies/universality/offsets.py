"""What a network without offsets loses: f(a x) = a f(x), so it cannot tell a bright picture from a dark one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import train_test_split
from torch import nn

from maxaffine.data import Split, load
from maxaffine.models import train

from .rates import SEEDS

GARMENTS = 10_000  # of the 60,000 to train on
EPOCHS = {"digits": 20, "fashion-mnist": 5, "breast cancer": 60, "wine": 60}
DIM = 0.3  # brightness of the dark pictures


@cache
def data(name: str) -> tuple[Split, Split]:
    """Training and test part; the columns of tables standardized by the training part."""
    if name in ("digits", "fashion-mnist"):
        found = load(name)
        return Split(found.train.inputs[:GARMENTS], found.train.labels[:GARMENTS]), found.test
    columns, answers = {"breast cancer": load_breast_cancer, "wine": load_wine}[name](return_X_y=True)
    parts = train_test_split(columns, answers, test_size=0.3, random_state=0, stratify=answers)
    x, fresh, labels, new = (torch.tensor(part) for part in parts)
    mean, spread = x.mean(0), x.std(0)
    return Split(((x - mean) / spread).float(), labels.long()), Split(((fresh - mean) / spread).float(), new.long())


def mlp(shape: tuple[int, ...], classes: int, bias: bool) -> nn.Module:
    """Two hidden layers of 128 units."""
    features = torch.Size(shape).numel()
    widths = [features, 128, 128]
    layers = [part for a, b in zip(widths, widths[1:], strict=False) for part in (nn.Linear(a, b, bias), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(128, classes, bias))


def cnn(shape: tuple[int, ...], classes: int, bias: bool) -> nn.Module:
    """Two convolutions with max-pooling and no batch-norm, whose shift would be an offset."""
    blocks = [
        part
        for a, b in ((shape[0], 16), (16, 32))
        for part in (nn.Conv2d(a, b, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2))
    ]
    side = shape[1] // 4
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(32 * side * side, classes, bias))


NETWORKS: dict[str, Callable[[tuple[int, ...], int, bool], nn.Module]] = {"mlp": mlp, "cnn": cnn}


def measure(name: str, network: str) -> dict[str, Any]:
    """For both kinds and every seed: which test inputs are answered right, as they are and dark, a character each."""
    found = [_compare(name, network, seed) for seed in SEEDS]
    return {key: [one[key] for one in found] for key in found[0]}


def _compare(name: str, network: str, seed: int) -> dict[str, str]:
    """One seed."""
    fit, test = data(name)
    found = {}
    for kind, bias in (("with", True), ("without", False)):
        torch.manual_seed(seed)
        model = NETWORKS[network](tuple(fit.inputs.shape[1:]), int(fit.labels.max()) + 1, bias)
        train(model, fit, epochs=EPOCHS[name], seed=seed, progress=False)
        with torch.no_grad():
            for light, factor in (("bright", 1.0), ("dark", DIM)):
                right = model(factor * test.inputs).argmax(1) == test.labels
                found[f"{kind}, {light}"] = "".join("01"[hit] for hit in right.tolist())
    return found
