"""A prior over the latents of a generator: draws in the latent's shape, their density, and whether it has bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints

from maxaffine._generators.slopes import Generator
from maxaffine.errors import BadInput

# Draws of these sum to one, so that their density is over one number fewer.
SUMMED = (constraints.simplex, constraints.one_hot)
DEVIATIONS = 8.0  # beyond which a normal prior leaves less than rounding


class Prior:
    """A distribution of torch as one of latents; of None a standard normal one."""

    def __init__(self, given: Any, g: Generator) -> None:
        if given is None:
            given = Normal(torch.zeros(g.latents, dtype=torch.float64, device=g.net.inputs.device), 1.0)
        if not isinstance(given, Distribution):
            raise BadInput(
                f"prior: expected a torch.distributions.Distribution, got {type(given).__name__}; write e.g."
                f" Normal(torch.zeros({g.latents}), 1)"
            )
        self.given, self.spec = given, g.net.inputs
        kind = self._support
        if kind is not None and (kind.is_discrete or kind in SUMMED):
            words = "draws whole numbers" if kind.is_discrete else "has a density over fewer numbers than it draws"
            raise BadInput(
                f"prior: {type(given).__name__} {words}; give one with a density over all {g.latents} latents"
            )
        self.shape = (*given.batch_shape, *given.event_shape)
        if prod(self.shape) != g.latents:
            raise BadInput(
                f"prior: its draws have the shape {tuple(self.shape)}, and a latent {self.spec.units[0]}; give a"
                " distribution with a batch or event of that shape"
            )

    def draw(self, count: int) -> Tensor:
        """So many draws (count, *shape), as they are."""
        return self.given.sample(torch.Size((count,)))

    def latents(self, drawn: Tensor) -> Tensor:
        """Draws as the network takes them, (count, *latent)."""
        return drawn.reshape(len(drawn), *self.spec.units[0]).to(self.spec.device, self.spec.dtypes[0])

    def log_density(self, z: Tensor) -> Tensor:
        """(N,) in double precision, of draws or latents; minus infinity outside of the prior's support."""
        drawn = z.reshape(len(z), *self.shape).to(self._like)
        try:
            inside = torch.ones(len(drawn), dtype=torch.bool)
            if self._support is not None:
                support: Any = self.given.support
                inside = support.check(drawn).reshape(len(drawn), -1).all(1).cpu()
            # What lies outside is refused by torch; in its place stands a draw.
            drawn[~inside] = self._like
            found = self.given.log_prob(drawn)
        except ValueError as error:
            raise BadInput(f"prior: {error}; build it with validate_args=False if that is meant") from error
        except NotImplementedError as error:
            raise BadInput(
                f"prior: {type(self.given).__name__} has no density (log_prob), by which is divided; give one that has,"
                " or sample by a polarity, rho="
            ) from error
        # A batch of distributions is of independent numbers, whose densities multiply.
        sums = found.reshape(len(z), -1).double().sum(1)
        return torch.where(inside.to(sums.device), sums, -inf).to(z.device)

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
    def box(self) -> tuple[Tensor, Tensor]:
        """Where latents lie, (S,) low and high: the support, or what is within so many deviations of the mean."""
        if self.bounded:
            support = self._support
            ends = [torch.as_tensor(end) for end in (support.lower_bound, support.upper_bound)]
        else:
            try:
                reach = DEVIATIONS * self.given.stddev
                ends = [self.given.mean - reach, self.given.mean + reach]
            except NotImplementedError as error:
                raise BadInput("bounds: the prior does not say where it lies; give the box (low, high)") from error
        low, high = (end.double().expand(self.shape).flatten().cpu() for end in ends)
        return low, high

    @property
    def bounded(self) -> bool:
        """Whether all draws lie in a bounded set, as far as the distribution says."""
        support = self._support
        if not isinstance(support, constraints.interval):
            return False
        ends = (torch.as_tensor(end) for end in (support.lower_bound, support.upper_bound))
        return all(bool(end.isfinite().all()) for end in ends)

    @property
    def _support(self) -> Any:
        """Where draws lie, of one number where numbers are independent; None where the distribution does not say."""
        try:
            support: Any = self.given.support
        except NotImplementedError:
            return None
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        return support


@contextmanager
def seeded(g: Generator, seed: int) -> Iterator[None]:
    """Draw from a seed, and leave torch's random state as it was."""
    device = g.net.inputs.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
