"""A prior over the latents of a generator: draws in the latent's shape, their density, and whether it has bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from maxaffine._generators.slopes import Generator
from maxaffine.errors import BadInput


class Prior:
    """A distribution of torch as one of latents."""

    def __init__(self, given: Any, g: Generator) -> None:
        if not isinstance(given, Distribution):
            raise BadInput(
                f"prior: expected a torch.distributions.Distribution, got {type(given).__name__}; write e.g."
                f" Normal(torch.zeros({g.latents}), 1)"
            )
        self.given, self.spec = given, g.net.inputs
        self.shape = (*given.batch_shape, *given.event_shape)
        if prod(self.shape) != g.latents:
            raise BadInput(
                f"prior: its draws have the shape {tuple(self.shape)}, and a latent {self.spec.units[0]}; give a"
                " distribution with a batch or event of that shape"
            )

    def draw(self, count: int) -> Tensor:
        """So many latents (count, *latent), as the network takes them."""
        drawn = self.given.sample(torch.Size((count,)))
        return drawn.reshape(count, *self.spec.units[0]).to(self.spec.device, self.spec.dtypes[0])

    def log_density(self, z: Tensor) -> Tensor:
        """(N,) in double precision."""
        try:
            found = self.given.log_prob(z.reshape(len(z), *self.shape).to(self._like))
        except NotImplementedError as error:
            raise BadInput(
                f"prior: {type(self.given).__name__} has no density (log_prob), by which is divided; give one that has,"
                " or sample by a polarity, rho="
            ) from error
        # A batch of distributions is of independent numbers, whose densities multiply.
        return found.reshape(len(z), -1).double().sum(1).to(z.device)

    @property
    def _like(self) -> Tensor:
        with torch.random.fork_rng([]):
            return self.given.sample()

    @property
    def entropy(self) -> float | None:
        """Of a latent, in nats, where the distribution knows it."""
        try:
            return float(self.given.entropy().double().sum())
        except NotImplementedError:
            return None

    @property
    def bounded(self) -> bool:
        """Whether all draws lie in a bounded set, as far as the distribution says."""
        try:
            support: Any = self.given.support
        except NotImplementedError:
            return False
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        if isinstance(support, constraints.interval):
            ends = (torch.as_tensor(end) for end in (support.lower_bound, support.upper_bound))
            return all(bool(end.isfinite().all()) for end in ends)
        return support is constraints.simplex


@contextmanager
def seeded(g: Generator, seed: int) -> Iterator[None]:
    """Draw from a seed, and leave torch's random state as it was."""
    device = g.net.inputs.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
