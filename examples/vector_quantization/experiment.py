"""Gradient descent on the spline's value beside K-means, on the same patches, in one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from tqdm import trange

from examples.vector_quantization.layer import VectorQuantizer
from examples.vector_quantization.patches import drawn, quarters
from maxaffine import MaxAffineSpline
from maxaffine.data import load

SIDE = 4
EPOCHS, BATCH, LEARNING_RATE = 20, 256, 0.02
GRADIENT, KMEANS, BEST_OF_TEN = "gradient descent", "k-means++", "k-means++, best of 10"


@dataclass(frozen=True)
class Kind:
    """What a patch is replaced by.

    Attributes:
        name: In words.
        features: Which pixels each codebook sees, (K, d).
        pieces: Centroids R in each codebook.
    """

    name: str
    features: Tensor
    pieces: int


@dataclass(frozen=True)
class Result:
    """What was found for one kind and one seed.

    Attributes:
        distortion: Mean squared distance per patch on training and test patches, by method.
        history: Distortion on the test patches after every epoch of gradient descent, and before the first.
        agreement: Share of the test patches' codes that equal scikit-learn's assignment to the same centroids.
        proved: Share that `certain` proves.
        layers: The quantizers, by method.
    """

    distortion: dict[str, tuple[float, float]]
    history: list[float]
    agreement: float
    proved: float
    layers: dict[str, VectorQuantizer]


KINDS = (
    Kind("one codebook of 64 (6 bits)", torch.arange(SIDE * SIDE)[None], 64),
    Kind("four codebooks of 16, one a quarter (16 bits)", quarters(SIDE), 16),
)


def compare(data: str, kind: Kind, seed: int, count: int = 20_000) -> Result:
    """Train by gradient descent and by K-means, from the same patches.

    Args:
        data: Name of the data set.
        kind: What to train.
        seed: Of the patches, the starting centroids and the order of the batches.
        count: Training patches; half as many test patches.

    Returns:
        The distortions of each method.
    """
    whole = load(data)
    train, test = drawn(whole.train, count, SIDE, seed), drawn(whole.test, count // 2, SIDE, seed)
    layer = VectorQuantizer(_start(train, kind, seed), kind.features)
    history = learn(layer, train, test, seed)
    layers = {GRADIENT: layer}
    for name, starts in ((KMEANS, 1), (BEST_OF_TEN, 10)):
        layers[name] = VectorQuantizer(_k_means(train, kind, seed, starts), kind.features)
    distortion = {name: (_mean(each, train), _mean(each, test)) for name, each in layers.items()}
    return Result(distortion, history, *_agreement(layer.spline(), test, kind), layers)


def learn(layer: VectorQuantizer, train: Tensor, test: Tensor, seed: int) -> list[float]:
    """Adam on the mean distortion, with a step size that falls to zero along half a cosine.

    Args:
        layer: Changed in place.
        train: Training patches (N, D).
        test: Test patches.
        seed: Of the order of the batches.

    Returns:
        Mean distortion on the test patches before the first epoch and after each.
    """
    optimizer = torch.optim.Adam([layer.maso.slopes], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * -(-len(train) // BATCH))
    generator = torch.Generator().manual_seed(seed)
    history = [_mean(layer, test)]
    for _ in trange(EPOCHS, desc="epochs", delay=2, disable=None):
        for rows in torch.randperm(len(train), generator=generator).split(BATCH):
            optimizer.zero_grad()
            layer(train[rows]).distortion.mean().backward()
            optimizer.step()
            schedule.step()
        history.append(_mean(layer, test))
    return history


def table(results: Sequence[tuple[Kind, Sequence[Result]]]) -> str:
    """The distortions as a Markdown table, mean and standard deviation over the seeds.

    Args:
        results: By kind, a result for every seed.

    Returns:
        The table.
    """
    head = ["quantizer", "method", "training patches", "test patches", "test / k-means++"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- " + "| ---: " * 3 + "|"]
    for kind, found in results:
        for method in (GRADIENT, KMEANS, BEST_OF_TEN):
            train, test = ([each.distortion[method][part] for each in found] for part in (0, 1))
            ratios = [each.distortion[method][1] / each.distortion[KMEANS][1] for each in found]
            cells = [_spread(values, 4) for values in (train, test)] + [_spread(ratios, 3)]
            lines.append(f"| {kind.name} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def agreement(results: Sequence[tuple[Kind, Sequence[Result]]]) -> str:
    """How far the codes are those of scikit-learn, and proved, in a sentence.

    Args:
        results: By kind, a result for every seed.

    Returns:
        Markdown.
    """
    every = [each for _, found in results for each in found]
    same, proved = min(each.agreement for each in every), min(each.proved for each in every)
    return (
        f"In the worst of the runs, {same:.4%} of the learned layer's codes on the test patches are the assignment of"
        f" scikit-learn's `KMeans.predict` to the same centroids, and `certain` proves {proved:.2%} of them, all in"
        " single precision.\n"
    )


def _start(train: Tensor, kind: Kind, seed: int) -> Tensor:
    """Random patches, each once: many patches are plain black, and equal centroids would stay equal."""
    generator = torch.Generator().manual_seed(seed)
    books = [train[:, seen].unique(dim=0) for seen in kind.features]
    return torch.stack([book[torch.randperm(len(book), generator=generator)[: kind.pieces]] for book in books])


def _k_means(train: Tensor, kind: Kind, seed: int, starts: int) -> Tensor:
    models = [
        KMeans(kind.pieces, n_init=starts, random_state=seed).fit(train[:, seen].numpy())  # pyright: ignore[reportArgumentType]
        for seen in kind.features
    ]
    return torch.stack([torch.from_numpy(model.cluster_centers_) for model in models])


@torch.no_grad()
def _mean(layer: VectorQuantizer, patches: Tensor) -> float:
    # Of the differences themselves, in double precision: the same for all methods, and nothing of the spline's.
    return float((patches.double() - layer(patches).values.double()).square().sum(1).mean())


def _agreement(spline: MaxAffineSpline, patches: Tensor, kind: Kind) -> tuple[float, float]:
    codes = spline.codes(patches)
    same = []
    for unit, seen in enumerate(kind.features):
        centroids = spline.slopes[unit].detach()[:, seen]
        model = KMeans(kind.pieces, random_state=0).fit(centroids.numpy())
        model.cluster_centers_ = np.ascontiguousarray(centroids.numpy())
        predicted = torch.from_numpy(np.asarray(model.predict(patches[:, seen].numpy()))).long()
        same.append((codes[:, unit] == predicted).double().mean())
    return float(torch.stack(same).mean()), float(spline.certain(patches).double().mean())


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{mean(values):.{digits}f} ± {stdev(values) if len(values) > 1 else 0:.{digits}f}"
