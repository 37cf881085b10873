"""One cell: a network of one seed is trained, pruned by every criterion at every ratio, and trained again."""

from __future__ import annotations

import copy
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from maxaffine.data import load
from maxaffine.models import build, train
from maxaffine.pruning import EarlyBird, SplineImportance
from studies.cells import Cell

SEEDS = range(5)
RATIOS = (0.3, 0.5, 0.7)
CRITERIA = ("spline", "gamma", "l1", "random")
# Small networks, small images and few epochs, for two cores.
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {"channels": (16, 32), "hidden": 64},
    "resnet": {"width": 8, "blocks": (1, 1, 1)},
}
EARLY_RATIO = 0.5
WATCHED = 128  # inputs whose signs the early bird compares
DATA = {
    "digits": {"train": 1438, "test": 359, "epochs": 12, "again": 4, "halved": 0},
    "fashion-mnist": {"train": 4_000, "test": 2_000, "epochs": 6, "again": 2, "halved": 1},
}


def cells() -> list[Cell]:
    """Every cell, seed by seed, the quick ones first."""
    return [
        Cell(
            f"{data}-{network}-{seed}",
            "pruning",
            {"data": data, "network": network, "seed": seed},
            partial(measure, data, network, seed),
        )
        for seed in SEEDS
        for data in DATA
        for network in NETWORKS
    ]


def measure(data: str, network: str, seed: int) -> dict[str, Any]:
    """All of one network."""
    recipe, whole = DATA[data], load(data)
    rows = torch.randperm(len(whole.train), generator=torch.Generator().manual_seed(seed))[: recipe["train"]]
    part, test = _part(whole.train, rows, recipe), _part(whole.test, torch.arange(recipe["test"]), recipe)
    shape = part.inputs.shape[1:]
    model = build(network, shape, whole.classes, seed=seed, **NETWORKS[network])
    example = part.inputs[:2]
    birds = {"inputs": EarlyBird(part.inputs[:WATCHED]), "canvas": EarlyBird(EarlyBird.canvas(shape, WATCHED))}
    moments: list[nn.Module] = []

    def after(epoch: object) -> None:
        for bird in birds.values():
            bird.record(model)
        moments.append(copy.deepcopy(model))

    train(model, part, epochs=recipe["epochs"], seed=seed, progress=False, after_epoch=after)
    cost = operations(model, example)
    found: dict[str, Any] = {"dense": right(model, test), "operations": cost, "pruned": {}}
    for criterion in CRITERIA:
        for ratio in RATIOS:
            smaller = pruned(model, example, criterion, ratio, seed)
            before = right(smaller, test)
            train(smaller, part, epochs=recipe["again"], lr=1e-3, seed=seed, progress=False)
            found["pruned"][f"{criterion}-{ratio}"] = {
                "before": before,
                "after": right(smaller, test),
                "operations": operations(smaller, example),
            }
    masks = [{name: kept(moment, example, name, seed) for name in ("spline", "gamma")} for moment in moments]
    found["overlap"] = {
        name: [float((mask[name] == masks[-1][name]).float().mean()) for mask in masks] for name in masks[-1]
    }
    found["distances"] = {name: [max(d, default=1.0) for d in bird.distances] for name, bird in birds.items()}
    found["settled"] = {name: bird.settled_at for name, bird in birds.items()}
    found["ticket"] = {}
    for name, bird in birds.items():
        if bird.settled_at is not None and bird.settled_at < recipe["epochs"]:
            found["ticket"][name] = ticket(
                moments[bird.settled_at - 1], bird.settled_at, part, test, recipe, cost, seed
            )
    return found


def _part(split: Any, rows: Tensor, recipe: dict[str, int]) -> Any:
    """Some of the data, in which each square of pixels is averaged as often as it is halved."""
    inputs = split.inputs[rows]
    for _ in range(recipe["halved"]):
        inputs = F.avg_pool2d(inputs, 2)
    return SimpleNamespace(inputs=inputs, labels=split.labels[rows])


def ticket(
    moment: nn.Module, epoch: int, part: Any, test: Any, recipe: dict[str, int], cost: float, seed: int
) -> dict[str, Any]:
    """The network as it was when the early bird stopped it, pruned, and trained for the epochs that were left."""
    smaller = pruned(moment, part.inputs[:2], "spline", EARLY_RATIO, seed)
    left = recipe["epochs"] - epoch
    train(smaller, part, epochs=left, seed=seed, progress=False)
    share = (epoch * cost + left * operations(smaller, part.inputs[:2])) / (recipe["epochs"] * cost)
    return {"after": right(smaller, test), "training": share}


def pruned(model: nn.Module, example: Tensor, criterion: str, ratio: float, seed: int) -> nn.Module:
    """A copy without a share of the channels of every convolution, or group of them that a skip connection joins."""
    smaller = copy.deepcopy(model).eval()
    pruner_of(smaller, example, criterion, ratio, seed).step()
    return smaller


def pruner_of(model: nn.Module, example: Tensor, criterion: str, ratio: float, seed: int) -> Any:
    """The pruner of a model's convolutions by a criterion."""
    magnitude: Any = tp.importance.MagnitudeImportance
    importance = {
        "spline": SplineImportance,
        "gamma": tp.importance.BNScaleImportance,
        "l1": partial(magnitude, p=1, group_reduction="first", normalizer=None),
        "random": partial(Random, seed),
    }[criterion]()
    linear: list[nn.Module] = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return tp.BasePruner(model, example, importance, pruning_ratio=ratio, ignored_layers=linear)


class Random:
    """Importance drawn from a generator of its own."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, group: Any) -> Tensor:
        """A number for each unit."""
        return torch.rand(len(group[0].idxs), generator=self.generator)


def kept(model: nn.Module, example: Tensor, criterion: str, seed: int) -> Tensor:
    """Which channels of all convolutions a criterion keeps at the ratio of the early bird, as one mask."""
    smaller = copy.deepcopy(model).eval()
    norms = [module for module in smaller.modules() if isinstance(module, nn.BatchNorm2d)]
    masks = {norm: torch.ones(norm.num_features, dtype=torch.bool) for norm in norms}
    for group in pruner_of(smaller, example, criterion, EARLY_RATIO, seed).step(interactive=True):
        for dependency, numbers in group:
            if dependency.target.module in masks:
                masks[dependency.target.module][list(numbers)] = False
    return torch.cat([*masks.values()])


def operations(model: nn.Module, example: Tensor) -> float:
    """Multiplications and additions of one input, in millions."""
    return float(tp.utils.count_ops_and_params(copy.deepcopy(model).eval(), example[:1])[0]) / 1e6


@torch.no_grad()
def right(model: nn.Module, test: Any) -> str:
    """Which test inputs are answered correctly, as bits in hexadecimal digits."""
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in test.inputs.split(500)]) == test.labels
    return np.packbits(found.numpy()).tobytes().hex()
