"""Random fields against their spectrum and Fourier identities, and the two answers against loops and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from examples.volumes.fields import COLLAPSE, HALF, SQUARES, TIDE, Universe, log_mass, sample

SMALL = Universe(side=16)


def test_fields_have_the_spectrum_that_was_asked_for() -> None:
    fields = 60
    modes = np.stack([SMALL.draw(seed) for seed in range(fields)])
    measured = (np.abs(modes) ** 2).mean(0) / 16**3
    # Each mode is one sample of an exponential (or chi-squared) distribution: means over shells of k are near P.
    numbers = np.rint(np.linalg.norm(SMALL.waves, axis=0) * 16 / (2 * np.pi)).astype(int)
    for number in range(1, 8):
        chosen = numbers == number
        expected = SMALL.spectrum[chosen].mean()
        assert measured[chosen].mean() == pytest.approx(expected, rel=6 / np.sqrt(chosen.sum() * fields / 2))
    field = SMALL.field(modes[0])
    # Parseval, against torch; k = 0 is empty.
    whole = torch.fft.fftn(torch.from_numpy(field))
    assert float(whole.abs().square().sum()) / 16**3 == pytest.approx((field**2).sum())
    assert abs(field.mean()) < 1e-12
    balls = [SMALL.field(item * SMALL.balls[2]).std() for item in modes]
    assert np.sqrt(np.mean(np.square(balls))) == pytest.approx(SMALL.sigma, rel=0.1)


def test_densities_by_hand_across_the_periodic_sides() -> None:
    modes, places = SMALL.draw(0), np.array([[0, 15, 3], [8, 8, 8]])
    field, found = SMALL.field(modes), SMALL.densities(modes, places)
    reach = range(-5, 6)
    for place, row in zip(places, found, strict=True):
        for square, mean in zip(SQUARES, row, strict=True):
            inside = [(a, b, c) for a in reach for b in reach for c in reach if a * a + b * b + c * c <= square]
            assert mean == pytest.approx(np.mean([field[tuple((place + step) % 16)] for step in inside]))
    crops = SMALL.crops(modes, places)
    assert crops.shape == (2, 1, 11, 11, 11) and crops.dtype == np.float32
    assert crops[0, 0, HALF, HALF + 1, HALF - 4] == np.float32(field[0, 0, 15])


def test_tides() -> None:
    modes, places = SMALL.draw(1), np.array([[1, 2, 3], [4, 15, 9]])
    eigenvalues = SMALL.tides(modes, places)
    assert eigenvalues.sum(1) == pytest.approx(SMALL.densities(modes, places)[:, TIDE])
    # A plane wave draws along its own direction alone.
    wave = np.fft.rfftn(np.broadcast_to(np.cos(2 * np.pi * np.arange(16) / 8)[:, None, None], (16, 16, 16)))
    crest = SMALL.tides(wave, np.array([[0, 5, 5]]))[0]
    assert crest[:2] == pytest.approx([0, 0], abs=1e-12) and crest[2] > 0.1


@pytest.mark.parametrize("shape", [(0.25, 0.35, 0.4), (0.2, 0.3, 0.5), (1 / 3, 1 / 3, 1 / 3)])
def test_the_barrier_solves_the_equation_of_ellipsoidal_collapse(shape: tuple[float, float, float]) -> None:
    """At a tide whose density is just at the barrier the paper's equation holds."""
    density: Any = brentq(lambda size: size - float(SMALL.barrier(np.array(shape) * size)), 0.1, 3.0)
    low, middle, high = shape
    e, p = (high - low) / 2, (low + high - 2 * middle) / 2
    right = 1 + 0.8 * (5 * (e**2 - np.sign(p) * p**2) * (density / COLLAPSE) ** 2) ** 0.615
    assert density / COLLAPSE == pytest.approx(right)


def test_the_largest_radius_that_collapses() -> None:
    excess = np.full((3, len(SQUARES)), -1.0)
    excess[0, [0, 4]] = 3.0
    excess[1, -1] = 1.0
    first, second, third = log_mass(excess)
    radius = np.sqrt(6) + (np.sqrt(8) - np.sqrt(6)) * 3 / 4
    assert first == pytest.approx(3 * np.log10(radius)) and np.isnan([second, third]).all()


def test_a_raised_threshold_never_adds_mass() -> None:
    found = sample(SMALL, 2, 40, seed=3)
    assert len(found.inputs) == len(found.spherical) > 5
    assert (found.ellipsoidal <= found.spherical).all() and (found.ellipsoidal < found.spherical).any()
    same = sample(SMALL, 2, 40, seed=3)
    assert np.array_equal(found.inputs, same.inputs)
