"""The cells of the study: each network of each seed by itself, then what the seeds of a network agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

import maxaffine as ma
from examples.real_networks.measuring import only

from .attributions import Said, attributions, cotangents, slopes
from .curves import areas
from .networks import NAMES, SEEDS, Subject, subject

# Changed whenever what is measured changes, so that results of different recipes are never mixed.
RECIPE = 1
SHOWN = (9, 1, 8)  # ankle boot, trouser, bag: the first of each is drawn


@dataclass(frozen=True)
class Cell:
    """One unit of work, kept when it is finished.

    Attributes:
        network: Which network.
        seed: Its seed, or None for all seeds together.
    """

    network: str
    seed: int | None

    @property
    def name(self) -> str:
        """Its name as a file."""
        return f"{self.network}-{'agreement' if self.seed is None else self.seed}"

    def measure(self, weights: Path) -> dict[str, Any]:
        """Its numbers, per input."""
        if self.seed is None:
            found = agreement(self.network, weights)
        else:
            found = alone(self.network, self.seed, weights)
        return {"recipe": RECIPE, "network": self.network, "seed": self.seed, **found}


def cells() -> list[Cell]:
    """Every cell, seed by seed."""
    return [Cell(name, seed) for seed in (*SEEDS, None) for name in NAMES]


def alone(name: str, seed: int, weights: Path) -> dict[str, Any]:
    """One network: its maps, what the methods say, and deletion and insertion by each."""
    one = subject(name, seed, weights)
    with torch.no_grad():
        answers = one.model(one.x).argmax(1)
    u = cotangents(one.model, one.x, answers)
    multipliers = slopes(name, one, u)
    said, plain = attributions(one, u, multipliers, one.baselines), next(iter(one.baselines))
    found: dict[str, Any] = {"quality": one.quality, "maps": _maps(one, u, multipliers)}
    found["like_frozen"] = {
        method: correlations(one, said["frozen"][plain], by[plain]) for method, by in said.items() if method != "frozen"
    }
    found["areas"] = _areas(one, answers, said)
    if one.x.ndim == 4:
        places = [int((one.labels == label).nonzero()[0]) for label in SHOWN if bool((one.labels == label).any())]
        found["shown"] = {"places": places, **{m: by[plain][places].tolist() for m, by in said.items()}}
    return found


def agreement(name: str, weights: Path) -> dict[str, Any]:
    """What the seeds of a network say of the right answers, by rank: of each other, and before and after training."""
    trained = [subject(name, seed, weights) for seed in SEEDS]
    before = [subject(name, seed, weights, trained=False) for seed in SEEDS]
    plain, one = next(iter(trained[0].baselines)), trained[0]
    said, said_before = ([_of_the_right_answer(name, each, plain) for each in moment] for moment in (trained, before))
    ranks: dict[str, dict[str, list[list[float]]]] = {"seeds": {}, "untrained": {}}
    for method in said[0]:
        after, first = ([by[method][plain] for by in moment] for moment in (said, said_before))
        ranks["seeds"][method] = [correlations(one, a, b) for a, b in combinations(after, 2)]
        ranks["untrained"][method] = [correlations(one, a, b) for a, b in zip(first, after, strict=True)]
    return ranks


def _of_the_right_answer(name: str, one: Subject, baseline: str) -> Said:
    u = cotangents(one.model, one.x, one.labels)
    return attributions(one, u, slopes(name, one, u), {baseline: one.baselines[baseline]})


def correlations(one: Subject, first: Tensor, second: Tensor) -> list[float]:
    """Spearman's rank correlation for each input, over the parts that hold anything: not over black patches."""
    there = one.sums(one.x.abs()) > 0
    return [_spearman(a[at], b[at]) for a, b, at in zip(first, second, there, strict=True)]


def _spearman(a: Tensor, b: Tensor) -> float:
    ranks = np.stack([rankdata(a.numpy()), rankdata(b.numpy())])
    return float(np.corrcoef(ranks)[0, 1]) if (ranks.std(1) > 0).all() else 0.0


def _maps(one: Subject, u: Tensor, multipliers: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """For each input: how far the row of A is from that of J, and how much of the answer each map leaves to b."""
    held, moved = multipliers["frozen"], multipliers["gradient"]
    tangent = only(ma.capture(one.model, one.x, smooth="tangent").affine_map(one.x).rmv(u))
    with torch.no_grad():
        value = (one.model(one.x) * u).sum(1)
    found = {
        "apart": _norm(held - moved) / _norm(moved),
        "steeper": _norm(held) / _norm(moved),
        "cosine": _cosine(held, moved),
        "tangent_gap": _norm(tangent - moved) / _norm(moved),
        "offset_frozen": _left(value, held, one.x),
        "offset_tangent": _left(value, moved, one.x),
    }
    if (other := multipliers.get("silu")) is not None:
        found |= {"carriers_apart": _norm(held - other) / _norm(held), "carriers_cosine": _cosine(held, other)}
    return {key: values.tolist() for key, values in found.items()}


def _areas(one: Subject, answers: Tensor, said: Said) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Areas by baseline and method; a random order is one more method, and breaks the ties of all."""
    parts = next(iter(said["frozen"].values())).shape
    ties = torch.rand(parts, generator=torch.Generator().manual_seed(0))
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for baseline, absent in one.baselines.items():
        orders = {method: by[baseline] for method, by in said.items()} | {"random": torch.zeros(parts)}
        found[baseline] = {}
        for method, numbers in orders.items():
            deletion, insertion = areas(one, answers, numbers, absent, ties)
            found[baseline][method] = {"deletion": deletion.tolist(), "insertion": insertion.tolist()}
    return found


def _norm(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1), b.flatten(1))


def _left(value: Tensor, row: Tensor, x: Tensor) -> Tensor:
    """|b| / (|A x| + |b|)."""
    inner = (row * x).flatten(1).sum(1)
    return (value - inner).abs() / (inner.abs() + (value - inner).abs())
