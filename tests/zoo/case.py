"""What a row of the zoo is: a network with its inputs, and what is true of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maxaffine.errors import MaxAffineError, NotPiecewiseAffine
from tests.zoo.networks import randomize

Shapes = tuple[tuple[int, ...], ...]

VECTOR: Shapes = ((6,),)
SERIES: Shapes = ((2, 9),)
STEPS: Shapes = ((4, 3),)
IMAGE: Shapes = ((1, 6, 6),)
COLOR: Shapes = ((3, 8, 8),)
VOLUME: Shapes = ((1, 4, 4, 3),)


@dataclass(frozen=True)
class Row:
    """A network and the shapes of its inputs, without the batch dimension, which is always the first."""

    name: str
    factory: Callable[[], nn.Module]
    shapes: Shapes = VECTOR

    def __str__(self) -> str:
        return self.name

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
        """A module in eval mode with weights drawn from the seed; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.factory()
            randomize(module)
        return module.to(dtype).eval()

    def inputs(self, batch: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
        """Normal inputs in the order of the module's arguments: the same values, rounded, whatever the dtype."""
        generator = torch.Generator().manual_seed(seed + 1)
        draws = [torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for shape in self.shapes]
        return tuple(draw.to(dtype) for draw in draws)


@dataclass(frozen=True)
class Case(Row):
    """A piecewise-affine network.

    ``outputs``: number of output tensors. ``affine``: one piece only. ``convex``: every output is convex in the inputs.
    ``continuous``: no jumps. ``biasless``: f(x) = A[x] x. ``max_pool``: holds a max-pooling. ``optional``: capture may
    refuse it with a reason, but must not be wrong about it.
    """

    outputs: int = 1
    affine: bool = False
    convex: bool = False
    continuous: bool = True
    biasless: bool = False
    max_pool: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Refused(Row):
    """A network that capture must refuse, and a regular expression that the message must match, ignoring case."""

    words: str = ""
    error: type[MaxAffineError] = NotPiecewiseAffine
    train: bool = False

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
        """The module, in train mode where that is the reason for refusing it."""
        return super().build(dtype, seed).train(self.train)
