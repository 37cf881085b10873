"""The density of a generator at samples, and its entropy.

Where g is injective, p(x) = p_z(z) / vol(z) at the one z with g(z) = x; otherwise the sum over all such z. On a region
the only candidate is A^+ (x - b), which counts when the network itself takes it to x.
"""

from dataclasses import dataclass
from math import inf, nan
from typing import Any

import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._generators.prior import Prior, seeded
from maxaffine._generators.slopes import Generator, Head, generator, in_float64, require_number
from maxaffine._generators.spectrum import log_volumes, logarithms, require_volume
from maxaffine._partition import regions
from maxaffine.errors import BadInput

ENUMERATED = 3  # latents up to which all regions are looked through
DRAWS = 1000  # of the prior, among which one is chosen to begin at
STEPS, HALVINGS = 200, 30  # from region to region, and of one step
TOLERANCE = 1e-11  # how near to x, beside the size of x and b, the network has to take a preimage
CANDIDATES = 2**22  # latents that are tried together, counted in numbers of samples


@dataclass(frozen=True, eq=False)
class Density:
    """The density of a generator's samples; from :func:`density`."""

    # (N,) minus infinity where a sample has no preimage, infinite where it has a continuum, and not a number where no
    # preimage was found though there may be one.
    log_density: Tensor
    counts: Tensor  # (N,) how many preimages were found
    preimages: tuple[Tensor, ...]  # (count, *latent) of every sample
    exhaustive: bool  # whether they are all; if not, the density is a lower bound unless g is injective

    @property
    def injective(self) -> bool:
        """Whether no sample was found to have two preimages."""
        return bool((self.counts <= 1).all())

    def to_dict(self) -> dict[str, Any]:
        """Log densities and counts as lists."""
        return {"log_density": self.log_density.tolist(), "counts": self.counts.tolist(), "exhaustive": self.exhaustive}

    def __repr__(self) -> str:
        missing = int((self.counts == 0).sum())
        if self.exhaustive:
            return f"Density: {len(self.counts)} samples, {missing} off the image of the box (all preimages in it)"
        kind = "one preimage each: a lower bound unless g is injective"
        return f"Density: {len(self.counts)} samples, {missing} without a preimage found ({kind})"


def density(
    net: object,
    x: Tensor,
    prior: Any = None,
    *,
    bounds: Any = None,
    start: Tensor | None = None,
    output: int | str | None = None,
    progress: bool | None = None,
) -> Density:
    """The density of samples x under the generator, with respect to volume on its image.

    Up to three latents all regions in a box are enumerated, and all preimages in it found: log p(x) is the logarithm of
    the sum of p_z(z) / vol(z) over them. With more, or with ``start``, one preimage is sought from there, from region
    to region by each one's pseudo-inverse: p(x) then is exact if g is injective, and a lower bound if not; where none
    is found it is not a number. In float64, up to the rounding of x in its own type.

    Args:
        net: The generator, captured, piecewise affine, with at most as many latents as numbers in a sample.
        x: Samples (N, *out), as the captured network gives them, so without an activation that was left out.
        prior: Of latents, with a density; standard normal by default.
        bounds: (low, high), numbers or one per latent: the box whose regions are enumerated. By default that of the
            prior, or eight standard deviations about its mean.
        start: (N, *latent) where to begin instead, such as an encoder's answer; by default, of more than three latents,
            whichever of 1,000 draws of the prior comes nearest.
        output: Which output, by number or name, for a network with several.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The densities, with the preimages.

    Raises:
        BadInput: For bounds and start together; for more than three latents with bounds; and as of
            :func:`maxaffine.generators.log_volume` and :func:`maxaffine.generators.sample`.
        NotPiecewiseAffine: For a smooth generator, which has no regions to look through.

    Example:
        >>> import torch, maxaffine as ma
        >>> net = ma.capture(torch.nn.Linear(1, 2), torch.zeros(1, 1))
        >>> prior = torch.distributions.Uniform(-torch.ones(1).double(), torch.ones(1).double())
        >>> z = torch.zeros(1, 1).double()
        >>> found = ma.generators.density(net, net.double()(z), prior, bounds=(-1, 1))
        >>> torch.allclose(
        ...     found.log_density.exp() * ma.generators.log_volume(net.double(), z).exp(), torch.tensor(0.5).double()
        ... )
        True
    """
    g = in_float64(generator(net, output))
    require_volume(g)
    g.net.require_regions("densities")
    if not isinstance(x, Tensor) or x.dim() < 2 or not len(x) or not x.is_floating_point() or not x.isfinite().all():
        raise BadInput("x: expected a batch of samples (N, *out), floating point and finite")
    rows = x.double().reshape(len(x), -1)
    if rows.shape[1] != g.numbers:
        raise BadInput(f"x: samples of {rows.shape[1]} numbers, and the generator's have {g.numbers}")
    if bounds is not None and start is not None:
        raise BadInput("bounds: give the box (low, high) of latents to look through, or start= latents to begin at")
    if bounds is not None and g.latents > ENUMERATED:
        raise BadInput(f"bounds: {g.latents} latents have too many regions to look through; give start= instead")
    given, tolerance = Prior(prior, g), max(TOLERANCE, 150 * torch.finfo(x.dtype).eps)
    exhaustive = start is None and g.latents <= ENUMERATED
    if exhaustive:
        found = _enumerate(g, rows, given.box if bounds is None else bounds, output, tolerance, progress)
    else:
        found = _follow(g, rows, _nearest(g, rows, given) if start is None else start, tolerance)
    logs = [_log_sum(g, z, given, -inf if exhaustive else nan) for z in found]
    counts = torch.tensor([len(z) for z in found])
    return Density(torch.stack(logs), counts, tuple(found), exhaustive)


def _log_sum(g: Generator, z: Tensor, prior: Prior, without: float) -> Tensor:
    """The logarithm of the sum of p_z / vol over preimages; ``without`` any."""
    if not len(z):
        return torch.tensor(without, dtype=torch.float64)
    density = prior.log_density(z)
    # Where the prior gives nothing a collapsed piece adds nothing.
    return torch.where(density > -inf, density - log_volumes(g.slopes(z, False, ""), g), -inf).logsumexp(0)


def _enumerate(
    g: Generator, rows: Tensor, bounds: Any, output: int | str | None, tolerance: float, progress: bool | None
) -> list[Tensor]:
    """All preimages of every sample, from the regions in a box."""
    found = regions(g.net, bounds, output=output, progress=progress)
    amap = found.affine_map()
    slopes = torch.as_tensor(amap.slopes).reshape(len(found), -1, g.latents)
    offsets = amap.offsets.flatten(1)
    inverse = torch.linalg.pinv(slopes)
    margin = 1e3 * tolerance * (found.high - found.low)
    collapsed = (logarithms(torch.linalg.svdvals(slopes), g) == -inf).any(1)
    preimages: list[Tensor] = []
    for part in slices(len(rows), CANDIDATES // max(1, len(found) * g.numbers)):
        z = torch.einsum("fsd,nfd->nfs", inverse, rows[part, None] - offsets)
        # What solves a region's equations may lie in another; that the network takes it to x is what counts, and is
        # judged by its own output there. At a boundary two regions give the same latent.
        near = (torch.einsum("fds,nfs->nfd", slopes, z) + offsets - rows[part, None]).norm(dim=2)
        near = near <= tolerance * (rows[part].norm(dim=1, keepdim=True) + offsets.norm(dim=1))
        for own, close, x in zip(z, near, rows[part], strict=True):
            kept = close & ((own >= found.low - margin) & (own <= found.high + margin)).all(1) & ~collapsed
            candidates = [own[kept].clamp(found.low, found.high)]
            # On a collapsed piece a continuum of latents gives x, of which the pseudo-inverse knows but one.
            for place in (close & collapsed).nonzero()[:, 0].tolist():
                candidates.append(_mixture(found.corners[place], slopes[place], x - offsets[place]))
            preimages.append(_distinct(_reaching(g, torch.cat(candidates), x, 10 * tolerance), margin))
    return preimages


def _mixture(corners: Tensor, slopes: Tensor, x: Tensor) -> Tensor:
    """A latent of a region, as a mean of its corners, that its slopes take nearest to x, (1, S)."""
    from scipy.optimize import nnls

    # Weights that are not negative and sum to one: the sum is one more equation.
    scale = float(x.norm()) + float((corners @ slopes.T).norm()) or 1.0
    system = torch.cat([slopes @ corners.T, torch.full((1, len(corners)), scale)])
    weights, _ = nnls(system.numpy(force=True), torch.cat([x, torch.tensor([scale])]).numpy(force=True))
    return torch.as_tensor(weights)[None] @ corners


def _reaching(g: Generator, z: Tensor, x: Tensor, tolerance: float) -> Tensor:
    """Those of some latents (n, S) that the network takes to x, as (n, *latent)."""
    shaped = z.reshape(len(z), *g.net.inputs.units[0])
    if not len(z):
        return shaped
    amap = g.affine_map(shaped)
    scale = x.norm() + amap.offsets.flatten(1).norm(dim=1)
    return shaped[(amap.value.flatten(1) - x).norm(dim=1) <= tolerance * scale]


def _distinct(z: Tensor, margin: Tensor) -> Tensor:
    """Latents without those that are another one up to rounding."""
    flat, kept = z.flatten(1), []
    for place, own in enumerate(flat):
        if not any(bool(((flat[other] - own).abs() <= margin).all()) for other in kept):
            kept.append(place)
    return z[kept]


def _nearest(g: Generator, rows: Tensor, prior: Prior) -> Tensor:
    """Of some draws of the prior, the same each time, the one whose sample is nearest to each row."""
    with seeded(g, 0):
        z = prior.latents(prior.draw(DRAWS))
    return z[torch.cdist(rows, g(z).flatten(1)).argmin(1)]


def _follow(g: Generator, rows: Tensor, start: Tensor, tolerance: float) -> list[Tensor]:
    """One preimage of every sample, by solving region after region; none where no region holds its solution."""
    if not isinstance(start, Tensor) or len(start) != len(rows) or start.numel() != len(rows) * g.latents:
        raise BadInput(f"start: expected {len(rows)} latents of {g.latents} numbers, one for each sample")
    z = g.checked(start.double().reshape(len(rows), *g.net.inputs.units[0]), "start")
    gap = rows - g(z).flatten(1)
    for _ in range(STEPS):
        if bool((gap.norm(dim=1) <= tolerance * rows.norm(dim=1)).all()):
            break
        step = torch.cat([torch.linalg.pinv(slopes) for slopes in g.slopes(z, False, "")]) @ gap[:, :, None]
        # A whole step may overshoot its region and go round in circles; along it the gap falls at first.
        share, ahead, left = torch.ones(len(z), 1, dtype=torch.float64), z, gap
        for _ in range(HALVINGS):
            ahead = z + (share * step[:, :, 0]).reshape(z.shape)
            left = rows - g(ahead).flatten(1)
            worse = left.norm(dim=1) > gap.norm(dim=1) * (1 - 1e-4 * share[:, 0])
            if not bool(worse.any()):
                break
            share = torch.where(worse[:, None], share / 2, share)
        z, gap = ahead, left
    return [_reaching(g, own.reshape(1, -1), x, 10 * tolerance) for own, x in zip(z, rows, strict=True)]


@dataclass(frozen=True)
class Entropy:
    """The differential entropy of a generator's samples, in nats; from :func:`entropy`."""

    value: float  # h(z) + E log vol(z)
    error: float  # one standard error of the mean over draws; 0 where it is a finite sum
    samples: int  # draws of the prior; 0 where there were none

    def __repr__(self) -> str:
        spread = f" +- {self.error:.2g}" if self.error else ""
        return f"Entropy: {self.value:.6g}{spread} nats (an upper bound unless the generator is injective)"


def entropy(
    net: object,
    prior: Any = None,
    n: int = 10_000,
    seed: int = 0,
    *,
    output: int | str | None = None,
    head: Head = None,
    progress: bool | None = None,
) -> Entropy:
    """The differential entropy of g(z): h(z) + E log vol(z), by draws of the prior.

    It is the entropy of the samples with respect to volume on the image if g is injective; if several latents give one
    sample it is an upper bound, since putting them together loses information. Two latents have it without draws:
    :meth:`maxaffine.generators.Manifold.entropy`.

    Args:
        net: The generator, as of :func:`maxaffine.generators.spectrum`.
        prior: Of latents, with a density; standard normal by default.
        n: Number of draws.
        seed: For the draws; torch's random state stays as it was.
        output: Which output, by number or name, for a network with several.
        head: An elementwise function after the last piece, as of :func:`maxaffine.generators.spectrum`.
        progress: Whether to show a progress bar; by default when it takes over two seconds.

    Returns:
        The entropy with its standard error; minus infinity where volumes are 0.

    Raises:
        BadInput: As of :func:`maxaffine.generators.sample`.
    """
    g = generator(net, output, head)
    require_volume(g)
    given = Prior(prior, g)
    require_number("n", n, 2)
    with seeded(g, seed):
        drawn = given.draw(n)
    volumes, known = log_volumes(g.slopes(given.latents(drawn), progress, "volume"), g), given.entropy
    # Without a formula h(z) is the mean of -log p, and the two means are of the same draws.
    terms = volumes if known is not None else volumes - given.log_density(drawn).to(volumes.device)
    value = float(terms.mean())
    spread = float(terms.std()) / n**0.5 if value > -inf else 0.0
    return Entropy(value + (known or 0.0), spread, n)
