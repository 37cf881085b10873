"""Sampling a generator evenly over its image, or more or less daringly, without training it.

A latent drawn from a prior p(z) lands on the image with the density p(z) / vol(z): where the generator stretches, few
samples fall. Drawing latents again with weights vol(z) / p(z) undoes it (uniform on the image); weights
(sigma_1 ... sigma_k)^rho lean towards modes, rho < 0, or away from them, rho > 0 (polarity).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._drawing import Panel, axes_for, is_image, panel_axes
from maxaffine._generators.prior import Prior, seeded
from maxaffine._generators.slopes import Generator, Head, generator, require_number
from maxaffine._generators.spectrum import check_count, logarithms, require_volume, singular_values
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("resampling", "rejection")
PER_SAMPLE = 10  # candidates for each sample that is resampled
AT_MOST = 1000  # candidates for each sample that rejection may try
PILOT = 10_000  # draws that say which latents hold the prior's mass
BATCH = 1024  # candidates that rejection tries together
SHOWN = 10  # pictures in a row of a plot


@dataclass(frozen=True, eq=False)
class Samples:
    """Latents drawn anew, and what the generator makes of them; from :func:`sample`.

    Attributes:
        z: (n, *latent).
        log_weights: (n,) the logarithms of their weights, up to a constant.
        effective_sample_size: (sum w)^2 / sum w^2 over all candidates: about how many evenly weighted ones they are.
        candidates: How many were drawn from the prior.
    """

    z: Tensor
    log_weights: Tensor
    effective_sample_size: float
    candidates: int
    g: Generator

    @cached_property
    def x(self) -> Tensor:
        """(n, *out) the samples, made when they are first asked for."""
        return self.g(self.z)

    def batches(self, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents and samples in batches, so that samples of any number need the memory of one batch."""
        for part in slices(len(self.z), size):
            yield self.z[part], self.g(self.z[part])

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """Latents and samples."""
        return self.z.numpy(force=True), self.x.numpy(force=True)

    def plot(self, ax: Axes | None = None, *, count: int = 30, size: float | None = None) -> Axes:
        """Draw the first samples: pictures as a sheet, pairs of numbers as points, others as lines or bars.

        Args:
            ax: What to draw in; None makes a figure of pyplot.
            count: How many pictures.
            size: Width of a new figure in inches.

        Returns:
            The axes.

        Raises:
            MaxAffineError: When matplotlib is absent.
        """
        if self.g.numbers == 2:
            ax = axes_for(ax, 4.5, 4.5, sheet=False, size=size)
            ax.scatter(*self.x.double().reshape(-1, 2).T.numpy(force=True), s=4, color="#0072B2", linewidths=0)
            ax.set_aspect("equal")
            return ax
        first = self.g(self.z[: count if is_image(self.g.units) else min(count, SHOWN)]).numpy(force=True)
        rows = [[Panel(item, "", "input") for item in first[part]] for part in slices(len(first), SHOWN)]
        return panel_axes(ax, rows, size=size)

    def __repr__(self) -> str:
        return (
            f"Samples: {len(self.z)} of {self.candidates} candidates, effective sample size"
            f" {self.effective_sample_size:.0f}"
        )


def sample(
    net: object,
    prior: Any,
    n: int,
    rho: float | None = None,
    k: int | None = None,
    seed: int = 0,
    *,
    method: str = "resampling",
    candidates: int | None = None,
    mass: float = 0.99,
    output: int | str | None = None,
    head: Head = None,
    progress: bool | None = None,
) -> Samples:
    """Draw samples evenly over the generator's image, or by polarity, by weighting latents of a prior.

    Without ``rho`` the weight of a latent is vol(z) / p(z), and samples fall uniformly on the image of those latents
    that the prior gives; where the image passes twice each sheet counts by itself. Of a prior without bounds, such as a
    normal one, the image usually has no finite volume and so no uniform distribution; only latents where p(z) is
    highest, of a share ``mass`` of the prior, are taken then. With ``rho`` the weight is (sigma_1 ... sigma_k)^rho; 0
    leaves the prior as it is.

    Args:
        net: The generator, as of :func:`maxaffine.generators.spectrum`.
        prior: Of latents: a distribution of torch whose draws have the latent's shape; for uniform sampling with a
            density.
        n: Number of samples.
        rho: None for uniform sampling; below 0 towards modes, above 0 away from them.
        k: How many singular values the polarity takes, all by default; uniform sampling takes all.
        seed: For the draws; the same call gives the same samples, and leaves torch's random state as it was.
        method: ``"resampling"`` draws n of ``candidates`` latents, systematically, so that a latent of weight w comes
            n w times up to one; ``"rejection"`` draws until n latents have passed, each with a probability of its
            weight over the largest so far: no latent comes twice, at the cost of more candidates.
        candidates: How many latents to draw, 10 n by default; of rejection at most, 1000 n by default.
        mass: Share of a boundless prior that uniform sampling keeps to.
        output: Which output, by number or name, for a network with several.
        head: An elementwise function after the last piece, as of :func:`maxaffine.generators.spectrum`.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The samples, with the effective sample size. A warning says so where it is below n, and where rejection has
        found fewer than n.

    Raises:
        BadInput: As of :func:`maxaffine.generators.log_volume`; for a prior of another shape, or without a density
            where one is needed; weights that are zero or infinite; a wrong argument.

    Example:
        >>> import torch, maxaffine as ma
        >>> net = ma.capture(torch.nn.Linear(2, 3), torch.zeros(1, 2))
        >>> prior = torch.distributions.Uniform(-torch.ones(2), torch.ones(2))
        >>> ma.generators.sample(net, prior, 100)  # flat, so that all weights are equal
        Samples: 100 of 1000 candidates, effective sample size 1000

    Source: uniform sampling, Humayun, Balestriero and Baraniuk, MaGNET (ICLR 2022); polarity, the same, Polarity
    Sampling (CVPR 2022), whose code takes the first 10 to 30 singular values.
    """
    g = generator(net, output, head)
    if method not in METHODS:
        raise BadInput(f"method: expected one of {METHODS}, got {method!r}")
    for name, number in (("n", n), ("candidates", candidates)):
        if number is not None:
            require_number(name, number, 1)
    if rho is not None and not isfinite(rho):
        raise BadInput(f"rho: {rho} is not a finite number; below 0 leans towards modes, above 0 away from them")
    if not 0 < mass <= 1:
        raise BadInput(f"mass: {mass} is not a share; give one above 0, up to 1")
    most = min(g.latents, g.numbers)
    with seeded(g, seed):
        draws = _Draws(g, Prior(prior, g), rho, most if k is None else check_count(k, most), mass)
        if method == "rejection":
            return _reject(draws, n, candidates or AT_MOST * n, progress)
        return _resample(draws, n, candidates or PER_SAMPLE * n, progress)


class _Draws:
    """Latents of a prior, with the logarithms of their weights."""

    def __init__(self, g: Generator, prior: Prior, rho: float | None, k: int, mass: float) -> None:
        self.g, self.prior, self.rho, self.k = g, prior, rho, k
        self.floor = -inf
        if rho is None:
            require_volume(g)
            if k != g.latents:
                raise BadInput(f"k: uniform sampling takes all {g.latents} singular values; give rho=, or leave k out")
            if not prior.bounded and mass < 1:
                self.floor = float(prior.log_density(prior.draw(PILOT)).quantile(1 - mass))

    def weighted(self, count: int, progress: bool | None) -> tuple[Tensor, Tensor]:
        """So many latents (count, *latent), and their log weights (count,) in double precision."""
        drawn = self.prior.draw(count)
        z = self.prior.latents(drawn)
        values = torch.cat([singular_values(slopes) for slopes in self.g.slopes(z, progress, "volume")])
        logs = logarithms(values, self.g)[:, : self.k].sum(1)
        if self.rho is None:
            # Of the draw as it was: rounded to the network's type it may lie on the rim, where the density is zero.
            density = self.prior.log_density(drawn).to(logs.device)
            return z, torch.where((density >= self.floor) & density.isfinite(), logs - density, -inf)
        weights = self.rho * logs if self.rho else torch.zeros_like(logs)
        if bool((weights == inf).any()):
            raise BadInput(
                f"k: of the first {self.k} singular values one is 0 at some latents, whose weights at rho={self.rho:g}"
                f" are infinite; the generator has fewer dimensions there (local_dimension), so give a smaller k"
            )
        return z, weights


def _effective_size(log_weights: Tensor) -> float:
    """(sum w)^2 / sum w^2."""
    return float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp())


def _require_weight(log_weights: Tensor) -> None:
    if not bool((log_weights > -inf).any()):
        raise BadInput(
            "net: the volume is 0 at every candidate: the generator is constant, or ignores a latent; see"
            " local_dimension(net, z), and sample by rho= with a smaller k"
        )


def _resample(draws: _Draws, n: int, count: int, progress: bool | None) -> Samples:
    """Draw n of so many candidates by weight, systematically."""
    z, weights = draws.weighted(count, progress)
    _require_weight(weights)
    # One shift for all n places in [0, 1): the count of every candidate is within one of n w, where independent draws
    # would scatter about it; the mean is right for each. Shuffled, so that any part of the samples is a fair one.
    ends = weights.softmax(0).cumsum(0)
    shift = torch.rand((), dtype=torch.float64, device=z.device)
    places = (torch.arange(n, device=z.device) + shift) / n * ends[-1]
    chosen = torch.searchsorted(ends, places).clamp(max=count - 1)[torch.randperm(n).to(z.device)]
    size = _effective_size(weights)
    if size < n:
        _warn(
            f"effective sample size {size:.0f} of {count} candidates, for {n} samples: some come several times; give"
            " more candidates=, or a rho nearer to 0"
        )
    return Samples(z[chosen], weights[chosen], size, count, draws.g)


def _reject(draws: _Draws, n: int, most: int, progress: bool | None) -> Samples:
    """Draw until n candidates have passed, each with the probability w / (largest w so far)."""
    bound, tried, kept, seen = -inf, 0, [], []
    with progress_bar(progress, "samples", total=n, unit="sample") as bar:
        while tried < most and sum(len(item[0]) for item in kept) < n:
            count = min(BATCH, most - tried)
            z, weights = draws.weighted(count, False)
            tried += count
            seen.append(weights)
            # When a larger weight turns up, what has passed before passes anew: with the same uniform number, so that
            # in the end all have met one bound.
            bound = max(bound, float(weights.max()))
            kept.append((z, weights, torch.rand(count, dtype=torch.float64, device=z.device).log()))
            passed = [weight - bound > uniform for _, weight, uniform in kept]
            kept = [tuple(part[mask] for part in item) for item, mask in zip(kept, passed, strict=True)]
            bar.update(min(n, sum(len(item[0]) for item in kept)) - bar.n)
    z, weights, _ = (torch.cat(items)[:n] for items in zip(*kept, strict=True))
    everything = torch.cat(seen)
    _require_weight(everything)
    size = _effective_size(everything)
    if len(z) < n:
        _warn(
            f"{len(z)} of {n} samples have passed after {tried} candidates, whose effective sample size is {size:.0f};"
            " give more candidates=, or a rho nearer to 0"
        )
    return Samples(z, weights, size, tried, draws.g)


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)
