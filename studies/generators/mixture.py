"""Generators of a ring of eight normal distributions, whose regions and masses are all known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Uniform

import maxaffine as ma

MODES, SPREAD, WIDTH, STEPS, BATCH = 8, 0.1, 48, 800, 256
DRAWN = 20_000
PRIOR = Uniform(-torch.ones(2).double(), torch.ones(2).double())


def measure(seed: int, separation: float) -> dict[str, Any]:
    """Train one generator; how uneven its samples are before and after resampling, by exact masses of regions."""
    torch.manual_seed(seed)
    model, error = _trained(separation)
    net = ma.capture(model, PRIOR.sample((2,)))
    surface = ma.generators.manifold(net, 1.0)
    exact = surface.areas / surface.area
    even = ma.generators.sample(net, PRIOR, DRAWN, seed=seed, candidates=10 * DRAWN)
    ideal = torch.multinomial(exact, DRAWN, replacement=True)
    logs = surface.log_volumes
    mean = float(surface.expectation(logs, "latent"))
    spread = float(surface.expectation((logs - mean) ** 2, "latent")) ** 0.5
    return {
        "regions": surface.plane.regions,
        "energy_distance": error,
        "plain": surface.imbalance,
        "even": _apart(surface.plane.locate(even.z), exact),
        "ideal": _apart(ideal, exact),  # what the same number of perfect draws leaves
        "effective": even.effective_sample_size / even.candidates,
        "spread": spread,  # of log volume over latents
        "largest": float(logs.max()) - mean,
    }


def ring(count: int, separation: float) -> Tensor:
    """Draws of the mixture, whose neighboring modes are so far apart."""
    angles = torch.randint(MODES, (count,)).double() * (2 * torch.pi / MODES)
    radius = separation / (2 * torch.sin(torch.tensor(torch.pi / MODES)))
    return radius * torch.stack([angles.cos(), angles.sin()], 1) + SPREAD * torch.randn(count, 2).double()


def _trained(separation: float) -> tuple[nn.Module, float]:
    layers = (nn.Linear(2, WIDTH), nn.LeakyReLU(0.1), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.1), nn.Linear(WIDTH, 2))
    model = nn.Sequential(*layers).double()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        _energy(model(PRIOR.sample((BATCH,))), ring(BATCH, separation)).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model.eval(), float(_energy(model(PRIOR.sample((2000,))), ring(2000, separation)))


def _energy(made: Tensor, real: Tensor) -> Tensor:
    """The energy distance of two samples, zero in the mean where they are of one distribution."""
    pairs = len(made) * (len(made) - 1) / len(made) ** 2
    return 2 * torch.cdist(made, real).mean() - (_within(made) + _within(real)) / pairs


def _within(points: Tensor) -> Tensor:
    gaps = points[:, None] - points
    return (gaps.square().sum(2) + 1e-12).sqrt().mean()


def _apart(cells: Tensor, exact: Tensor) -> float:
    """Total variation between draws and exact shares."""
    shares = torch.bincount(cells[cells >= 0], minlength=len(exact)).double() / len(cells)
    return float((shares - exact).abs().sum() / 2)
