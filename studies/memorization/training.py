"""One training of the grid, and what is measured on it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import maxaffine as ma
from maxaffine.data import DataSet, Split, load
from maxaffine.models import accuracy, build

from .grid import Run

STEPS, BATCH, LEARNING_RATE = 1000, 64, 2e-3
CHANNELS, HIDDEN = (8, 16), 64
# Images of each part that templates are measured on.
MEASURED = 500


def outcomes(run: Run) -> dict[str, float]:
    """Train, and measure."""
    train, test, classes = _parts(run)
    model = _trained(run, train, classes)
    net = ma.capture(model, train.inputs[:2])
    found = ma.templates.memorization(
        net, train.take(slice(0, MEASURED)), test.take(slice(0, MEASURED)), progress=False
    )
    measured = {"score": found.score, "train_fit": accuracy(model, train), "test_fit": accuracy(model, test)}
    for name, part in (("train", found.train), ("test", found.test)):
        if part is not None:
            measured |= {f"{name}_{quantity}": value for quantity, value in part.summary.items()}
    return measured


def _parts(run: Run) -> tuple[Split, Split, int]:
    data = _loaded(run.data)
    generator = torch.Generator().manual_seed(run.seed)
    rows = torch.randperm(len(data.train), generator=generator)[: run.size]
    unseen = torch.randperm(len(data.test), generator=generator)[: 2 * MEASURED]
    parts = (data.train.take(rows), data.test.take(unseen))
    train, test = (_relabeled(part, run.random, data.classes, generator) for part in parts)
    return train, test, data.classes


def _relabeled(part: Split, share: float, classes: int, generator: torch.Generator) -> Split:
    chosen = torch.rand(len(part), generator=generator) < share
    drawn = torch.randint(classes, (len(part),), generator=generator)
    return Split(part.inputs, torch.where(chosen, drawn, part.labels))


def _trained(run: Run, train: Split, classes: int) -> nn.Module:
    shape = tuple(train.inputs.shape[1:])
    model = build("cnn", shape, classes, seed=run.seed, channels=CHANNELS, hidden=HIDDEN)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    inputs = train.inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=run.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    generator = torch.Generator().manual_seed(run.seed)
    model.train()
    for rows in _batches(len(inputs), generator):
        loss = F.cross_entropy(model(inputs[rows]), train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _batches(size: int, generator: torch.Generator) -> list[Tensor]:
    """The rows of every step, pass after pass."""
    rows: list[Tensor] = []
    while len(rows) < STEPS:
        rows += [part for part in torch.randperm(size, generator=generator).split(BATCH) if len(part) > 1]
    return rows[:STEPS]


@cache
def _loaded(name: str) -> DataSet:
    kind, _, side = name.partition(" ")
    data = load(kind)
    return _halved(data) if side else data


def _halved(data: DataSet) -> DataSet:
    train, test = (Split(F.avg_pool2d(part.inputs, 2), part.labels) for part in (data.train, data.test))
    return replace(data, train=train, test=test)
