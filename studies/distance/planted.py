"""Planted duplicates and planted wrong labels: how many of them the codes give away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import maxaffine as ma
from maxaffine.data import DataSet, Split
from studies.distance.network import trained
from studies.distance.views import euclidean

INPUTS, WRONG, COPIES, JUDGES = 10_000, 500, 100, 10
KINDS = ("exact", "darker by 10%", "nine gray levels", "noise 0.02", "noise 0.05", "shifted by 1 pixel", "mirrored")


def study(seed: int, data: DataSet, weights: Path) -> dict[str, Any]:
    """Plant, train on the wrong labels too, and look for what was planted."""
    draw = torch.Generator().manual_seed(seed)
    images, right = data.train.inputs[:INPUTS], data.train.labels[:INPUTS]
    places = torch.randperm(INPUTS, generator=draw)
    wrong = places[:WRONG]
    given = right.clone()
    given[wrong] = (right[wrong] + torch.randint(1, data.classes, (WRONG,), generator=draw)) % data.classes
    _, model = trained("cnn", seed, replace(data, train=Split(images, given)), weights)
    net = ma.capture(model, images[:2])
    codes = ma.Codes.concat([net.codes(batch) for batch in images.split(500)])
    sources = places[WRONG : WRONG + COPIES * len(KINDS)].view(len(KINDS), COPIES)
    copies = [_copied(images[chosen], kind, draw) for kind, chosen in zip(KINDS, sources, strict=True)]
    everything = ma.Codes.concat([codes, *(net.codes(batch) for batch in copies)])
    return {
        "seed": seed,
        "labels": _labels(model, codes, images, given, right, wrong),
        "duplicates": _duplicates(everything, sources),
    }


def _copied(images: Tensor, kind: str, draw: torch.Generator) -> Tensor:
    if kind.startswith("noise"):
        return (images + float(kind.split()[1]) * torch.randn(images.shape, generator=draw)).clamp(0, 1)
    changed = {
        "exact": images,
        "darker by 10%": 0.9 * images,
        "nine gray levels": (8 * images).round() / 8,
        "shifted by 1 pixel": F.pad(images, (1, 0, 0, 0))[..., :-1],
        "mirrored": images.flip(-1),
    }
    return changed[kind].clone()


def _labels(
    model: nn.Module, codes: ma.Codes, images: Tensor, given: Tensor, right: Tensor, wrong: Tensor
) -> dict[str, float]:
    found = ma.search.label_errors(codes, given)
    truth = torch.zeros(INPUTS, dtype=torch.bool)
    truth[wrong] = True
    hits = int(truth[found.candidates].sum())
    with torch.no_grad():
        loss = torch.cat([F.cross_entropy(model(images[i]), given[i], reduction="none") for i in _batches()])
    pixels = torch.cat([_other_labels(images, given, i) for i in _batches()])
    return {
        "candidates": len(found),
        "precision": hits / max(1, len(found)),
        "recall": hits / WRONG,
        "corrected": float((found.suggested[wrong] == right[wrong]).double().mean()),
        "auroc": float(roc_auc_score(truth, found.scores)),
        "auroc_loss": float(roc_auc_score(truth, loss)),
        "auroc_pixels": float(roc_auc_score(truth, pixels)),
    }


def _batches() -> list[slice]:
    return [slice(start, start + 500) for start in range(0, INPUTS, 500)]


def _other_labels(images: Tensor, given: Tensor, rows: slice) -> Tensor:
    """Share of the nearest in pixels whose label is another, the image itself left out."""
    distance = euclidean(images[rows].flatten(1), images.flatten(1))
    distance[torch.arange(len(distance)), torch.arange(INPUTS)[rows]] = torch.inf
    nearest = distance.topk(JUDGES, largest=False).indices
    return (given[nearest] != given[rows, None]).double().mean(1)


def _duplicates(codes: ma.Codes, sources: Tensor) -> dict[str, Any]:
    found = {tuple(pair) for pair in ma.search.near_duplicates(codes).pairs.tolist()}
    planted: set[tuple[int, int]] = set()
    rates = {}
    for number, kind in enumerate(KINDS):
        first = INPUTS + COPIES * number
        pairs = {(source, first + i) for i, source in enumerate(sources[number].tolist())}
        rates[kind] = len(pairs & found) / COPIES
        planted |= pairs
    return {"rates": rates, "others": sum(max(pair) < INPUTS for pair in found - planted)}
