"""A small data set, a network for it, and the report on both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from maxaffine import _models as models
from maxaffine._data import DataSet, Split
from maxaffine._report import Choices, Contents, assemble, find_subject


def _split(count: int, generator: torch.Generator) -> Split:
    labels = torch.arange(count) % 3
    inputs = torch.rand(count, 1, 6, 6, generator=generator) * 0.5
    inputs[torch.arange(count), 0, labels * 2] += 0.5
    return Split(inputs, labels)


@pytest.fixture(scope="session")
def data() -> DataSet:
    generator = torch.Generator().manual_seed(1)
    return DataSet("stripes", _split(60, generator), _split(30, generator), ("top", "middle", "$low$ <b>"))


@pytest.fixture(scope="session")
def model(data: DataSet) -> nn.Sequential:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(8, 3))
    models.train(network, data.train, epochs=2, seed=0)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def contents(model: nn.Module, data: DataSet) -> Contents:
    choices = Choices(images=3, neighbors=4, cells=300)
    return assemble(find_subject(model, data, choices, "a network", "drawn at random"))
