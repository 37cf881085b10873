"""What a row of the contracts is: a module that calls every operator of one family of rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.networks import Net

VECTOR: tuple[int, ...] = (6,)
STEPS: tuple[int, ...] = (3, 4)
SERIES: tuple[int, ...] = (2, 9)
IMAGE: tuple[int, ...] = (2, 5, 6)


@dataclass(frozen=True)
class Contract:
    """A module that calls every operator of a family of rules.

    Attributes:
        family: File and function of the rule.
        body: The forward of the module ``m``.
        shapes: Shapes of its inputs, without the batch.
        parts: Its constants: shapes to draw, or tensors.
    """

    family: str
    body: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...] = (VECTOR,)
    parts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.family

    def module(self) -> nn.Module:
        """The module, its constants drawn from a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            drawn = {key: torch.randn(item) if isinstance(item, tuple) else item for key, item in self.parts.items()}
            return Net(self.body, **drawn).eval()

    def example(self) -> Tensor | tuple[Tensor, ...]:
        """Two samples of its inputs."""
        inputs = tuple(torch.zeros(2, *shape) for shape in self.shapes)
        return inputs if len(inputs) > 1 else inputs[0]


def beside(*values: Tensor) -> Tensor:
    """Several values of one sample as one vector."""
    return torch.cat([value.flatten(1) for value in values], 1)


def each(*functions: Callable[[Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """The forward of a module that applies several functions to its input."""
    return lambda m, x: beside(*(function(x) for function in functions))


def gated(*functions: Callable[[Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """The same for functions that are constant within a region: x times each of them."""
    return lambda m, x: beside(*(x * function(x) for function in functions))
