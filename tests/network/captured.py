"""Networks with random weights, captured, and vectors to ask them about."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import maxaffine as ma
from tests.zoo.networks import randomize


def capture(module: nn.Module, *inputs: Tensor) -> ma.SplineNetwork:
    torch.manual_seed(0)
    randomize(module)
    return ma.capture(module.to(inputs[0].dtype).eval(), inputs)


def vectors(batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
