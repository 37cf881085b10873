"""The four tasks: adding two of a hundred numbers, digits pixel by pixel, garments row by row and pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

import maxaffine as ma

STEPS = 100  # of the adding task
SIDE = 8  # of the garments whose pixels are permuted
GARMENTS, TESTED = 4000, 2000
PERMUTATION = 0  # seed of the order of the pixels, the same for all networks


@dataclass(frozen=True)
class Data:
    """Sequences (N, T, D) and what is to be said of them, for training and for the test."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """One task and how long it is learned."""

    title: str
    data: Callable[[], Data]
    outputs: int
    hidden: int
    epochs: int
    batch: int = 128

    @property
    def loss(self) -> nn.Module:
        """Of a single output the squared error, of several the cross-entropy."""
        return nn.MSELoss() if self.outputs == 1 else nn.CrossEntropyLoss()


def _adding() -> Data:
    """Numbers in [0, 1] and marks at two of them, one in each half; the answer is the sum of the marked ones."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        numbers = torch.rand(count, STEPS, generator=generator)
        marks = torch.zeros(count, STEPS)
        for low in (0, STEPS // 2):
            marks[torch.arange(count), torch.randint(low, low + STEPS // 2, (count,), generator=generator)] = 1
        return torch.stack([numbers, marks], 2), (numbers * marks).sum(1, keepdim=True)

    return Data(draw(12000), draw(TESTED))


def _digits() -> Data:
    return Data(*((x.reshape(len(x), -1, 1), y) for x, y in _loaded("digits")))


@cache
def _loaded(name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The first images and labels of the two parts of a data set."""
    data = ma.data.load(name)
    parts = ((data.train, GARMENTS), (data.test, TESTED))
    first, second = ((one.inputs[:most], one.labels[:most]) for one, most in parts)
    return first, second


def _rows() -> Data:
    return Data(*((x.reshape(-1, 28, 28), y) for x, y in _loaded("fashion-mnist")))


def _permuted() -> Data:
    order = torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(PERMUTATION))
    pairs = []
    for x, y in _loaded("fashion-mnist"):
        small = nn.functional.adaptive_avg_pool2d(x.reshape(-1, 1, 28, 28), SIDE)
        pairs.append((small.flatten(1)[:, order].unsqueeze(2), y))
    return Data(*pairs)


TASKS = {
    "digits": Task("digits by pixel, T = 64", _digits, 10, 64, 24, 32),
    "rows": Task("garments by row, T = 28", _rows, 10, 64, 8),
    "permuted": Task(f"garments, permuted pixels, T = {SIDE**2}", _permuted, 10, 64, 10, 64),
    "adding": Task(f"adding, T = {STEPS}", _adding, 1, 64, 6),
}
