"""Gaussian random fields on a periodic grid, and two answers at a place in them: by distance alone, and by direction.

The answers are caricatures of how the mass of a dark-matter halo follows from the initial density: nothing here is an
N-body simulation, and lengths are in voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

COLLAPSE = 1.686  # density contrast at which a sphere collapses, in linear theory
# Squared radii in voxels of the balls that are looked at; the largest fits into a crop. The fifth is that of the tide.
SQUARES = np.array([2, 3, 4, 5, 6, 8, 9, 12, 14, 16, 20, 25])
TIDE = 4
HALF = 5  # a crop has 2 * HALF + 1 voxels a side
DENSE = 1.6  # candidates: where the smallest ball has this many times the threshold


@dataclass(frozen=True)
class Universe:
    """Fields with P(k) = amplitude^2 k^index exp(-(k smoothing)^2) on side^3 voxels.

    Modes are those of ``numpy.fft.rfftn``: over many fields the mean of |delta_k|^2 / side^3 is P(k). The amplitude is
    such that the mean over a ball of radius 2 has the standard deviation `sigma`.

    Args:
        side: Voxels along each axis; even.
        index: n of k^n.
        smoothing: R of exp(-k^2 R^2), in voxels.
        sigma: That deviation, in units of the density contrast.
        strength: How much an anisotropic tide raises the threshold: 0.47 is the ellipsoidal collapse of R. Sheth, H. Mo
            and G. Tormen (2001, equation 3), 0 the sphere's, the default more than either.
    """

    side: int = 32
    index: float = -1.0
    smoothing: float = 1.0
    sigma: float = 1.5
    strength: float = 0.8

    @cached_property
    def waves(self) -> np.ndarray:
        """The wave vectors of the modes, (3, side, side, side // 2 + 1)."""
        whole = 2 * np.pi * np.fft.fftfreq(self.side)
        half = 2 * np.pi * np.fft.rfftfreq(self.side)
        return np.stack(np.meshgrid(whole, whole, half, indexing="ij"))

    @cached_property
    def balls(self) -> np.ndarray:
        """The modes of the mean over each ball, in the order of `SQUARES`; real, since balls are even."""
        steps = np.arange(self.side)
        away = np.minimum(steps, self.side - steps) ** 2
        squares = away[:, None, None] + away[:, None] + away
        inside = [squares <= square for square in SQUARES]
        return np.stack([np.fft.rfftn(ball / ball.sum()).real for ball in inside])

    @cached_property
    def spectrum(self) -> np.ndarray:
        """P(k) at the modes; 0 at k = 0."""
        squares = (self.waves**2).sum(0)
        with np.errstate(divide="ignore"):
            shape = np.where(squares > 0, squares ** (self.index / 2) * np.exp(-squares * self.smoothing**2), 0.0)
        # Of the two halves of all modes, which are alike, only one is stored, but for the planes between them.
        twice = np.full(self.side // 2 + 1, 2.0)
        twice[[0, -1]] = 1.0
        variance = (shape * self.balls[2] ** 2 * twice).sum() / self.side**3
        return shape * self.sigma**2 / variance

    def draw(self, seed: int | np.random.Generator) -> np.ndarray:
        """The modes of one field."""
        noise = np.random.default_rng(seed).standard_normal((self.side,) * 3)
        return np.fft.rfftn(noise) * np.sqrt(self.spectrum)

    def field(self, modes: np.ndarray) -> np.ndarray:
        """The density contrast of modes, (side, side, side)."""
        return np.fft.irfftn(modes, s=(self.side,) * 3, axes=(0, 1, 2))

    def densities(self, modes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The mean density contrast of every ball about some places, (P, R)."""
        return np.stack([self.field(modes * ball)[tuple(places.T)] for ball in self.balls], 1)

    def tides(self, modes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The eigenvalues of the tidal tensor at some places, (P, 3), increasing, smoothed over the ball `TIDE`."""
        # The second derivatives of the potential whose Laplacian is the density contrast: T_ij = k_i k_j / k^2 delta_k.
        squares = (self.waves**2).sum(0)
        squares[0, 0, 0] = 1.0
        smooth = modes * self.balls[TIDE] / squares
        tensors = np.empty((len(places), 3, 3))
        for i in range(3):
            for j in range(i + 1):
                entry = self.field(smooth * self.waves[i] * self.waves[j])[tuple(places.T)]
                tensors[:, i, j] = tensors[:, j, i] = entry
        return np.linalg.eigvalsh(tensors)

    def barrier(self, eigenvalues: np.ndarray) -> np.ndarray:
        """The density contrast that an ellipsoid in a tide (..., 3) needs to collapse."""
        # With ellipticity e and prolateness p it solves
        # barrier / COLLAPSE = 1 + strength (5 (e^2 -+ p^2) barrier^2 / COLLAPSE^2)^0.615, minus where p > 0.
        # Where the density is at the barrier, e and p times it are differences of eigenvalues: nothing to be solved.
        low, middle, high = np.moveaxis(eigenvalues, -1, 0)
        ellipticity, prolateness = (high - low) / 2, (low + high - 2 * middle) / 2
        squares = np.maximum(ellipticity**2 - np.sign(prolateness) * prolateness**2, 0.0)
        return COLLAPSE * (1 + self.strength * (5 * squares / COLLAPSE**2) ** 0.615)

    def candidates(self, modes: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        """Some places (count, 3), drawn from the dense ones."""
        dense = np.argwhere(self.field(modes * self.balls[0]) > DENSE * COLLAPSE)
        return dense[generator.permutation(len(dense))[:count]]

    def crops(self, modes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The density around places, (P, 1, 11, 11, 11) float32, across the periodic sides."""
        near = (places[:, :, None] + np.arange(-HALF, HALF + 1)) % self.side
        z, y, x = near[:, 0, :, None, None], near[:, 1, None, :, None], near[:, 2, None, None, :]
        return self.field(modes)[z, y, x][:, None].astype(np.float32)


@dataclass(frozen=True)
class Sample:
    """Crops with both answers: log10 of the mass, the cube of the largest radius that collapses."""

    inputs: np.ndarray  # (N, 1, 11, 11, 11) float32
    spherical: np.ndarray  # (N,): the threshold is that of a sphere
    ellipsoidal: np.ndarray  # (N,): the threshold is raised by the tide


def sample(universe: Universe, fields: int, count: int, seed: int) -> Sample:
    """Crops from some fields, ``count`` candidates of each; those that have no answer within the radii are left out."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(fields):
        modes = universe.draw(generator)
        places = universe.candidates(modes, count, generator)
        density = universe.densities(modes, places)
        barrier = universe.barrier(universe.tides(modes, places))
        masses = [log_mass(density - COLLAPSE), log_mass(density - barrier[:, None])]
        known = np.isfinite(masses).all(0)
        found.append((universe.crops(modes, places[known]), *(mass[known] for mass in masses)))
    return Sample(*(np.concatenate(items) for items in zip(*found, strict=True)))


def log_mass(excess: np.ndarray) -> np.ndarray:
    """log10 R^3 for the largest R where an excess (P, radii) falls through 0; NaN where it is at either end."""
    radii, rows = np.sqrt(SQUARES), np.arange(len(excess))
    above = excess > 0
    last = above.shape[1] - 1 - above[:, ::-1].argmax(1)
    known = above.any(1) & (last < above.shape[1] - 1)
    last = np.where(known, last, 0)
    before, after = excess[rows, last], excess[rows, last + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        crossing = radii[last] + (radii[last + 1] - radii[last]) * before / (before - after)
        return np.where(known, 3 * np.log10(np.where(known, crossing, 1.0)), np.nan)
