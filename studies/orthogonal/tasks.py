"""The tasks: training, validation and test data for a number of training samples and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor

from maxaffine.data import DataSet, Split, load

# Images of the training part that are set aside, of each set, for the choice of lambda.
VALIDATION: Mapping[str, int] = MappingProxyType({"digits": 300, "fashion-mnist": 5000})
PAIRS: Mapping[str, str] = MappingProxyType({"digit-pairs": "digits", "fashion-mnist-pairs": "fashion-mnist"})
VALIDATION_PAIRS, TEST_PAIRS = 2000, 5000
TASKS = (*VALIDATION, *PAIRS)


@dataclass(frozen=True)
class Task:
    """Data of one training; no image is in two of the three parts."""

    train: Split
    validation: Split
    test: Split
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train.inputs.shape[1:])


def task(name: str, size: int, seed: int) -> Task:
    """Draw the training data of one seed; validation and test data are the same for every seed."""
    base = PAIRS.get(name, name)
    data = _loaded(base)
    aside = torch.randperm(len(data.train), generator=_generator(0))
    validation, pool = aside[: VALIDATION[base]], aside[VALIDATION[base] :]
    generator = _generator(1 + seed)
    if name in PAIRS:
        return Task(
            _pairs(data.train, pool, size, generator),
            _pairs(data.train, validation, VALIDATION_PAIRS, _generator(0)),
            _pairs(data.test, torch.arange(len(data.test)), TEST_PAIRS, _generator(0)),
            data.classes**2,
        )
    if size > len(pool):
        raise ValueError(f"{name} has {len(pool)} training images beside the validation part, not {size}")
    drawn = pool[torch.randperm(len(pool), generator=generator)[:size]]
    return Task(data.train.take(drawn), data.train.take(validation), data.test, data.classes)


def scaled(data: Task) -> Task:
    """The same with the mean of each image taken off and its largest entry made 1, as the authors' script has it."""

    def scale(split: Split) -> Split:
        centered = split.inputs - split.inputs.mean((1, 2, 3), keepdim=True)
        return Split(centered / centered.abs().amax((1, 2, 3), keepdim=True), split.labels)

    return Task(scale(data.train), scale(data.validation), scale(data.test), data.classes)


@cache
def _loaded(name: str) -> DataSet:
    return load(name)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pairs(split: Split, images: Tensor, count: int, generator: torch.Generator) -> Split:
    """Pairs of images drawn with replacement."""
    left, right = images[torch.randint(len(images), (2, count), generator=generator)]
    inputs = torch.cat([split.inputs[left], split.inputs[right]], dim=3)
    return Split(inputs, 10 * split.labels[left] + split.labels[right])
