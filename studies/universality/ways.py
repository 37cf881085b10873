"""One spline fitted in four ways: what a good start is worth, and what a step."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from maxaffine import MaxAffineSpline

from .functions import FUNCTIONS, samples
from .rates import FRESH, SEEDS, errors

EPOCHS = 2000
RESTARTS = 10


def measure(features: int, pieces: int, noise: float) -> dict[str, Any]:
    """The errors at fresh inputs, and the CPU seconds, of each way and seed."""
    found = [_compare(features, pieces, noise, seed) for seed in SEEDS]
    return {way: [one[way] for one in found] for way in WAYS}


def _compare(features: int, pieces: int, noise: float, seed: int) -> dict[str, dict[str, float]]:
    """One seed."""
    f = FUNCTIONS["log-sum-exp"](features, seed)
    x, fresh = samples(2000, features, seed), samples(FRESH, features, 1000 + seed)
    generator = torch.Generator().manual_seed(seed)
    y = f(x)
    y = y + noise * y.std() * torch.randn(len(y), generator=generator, dtype=torch.float64)
    found = {}
    for name, way in WAYS.items():
        begin = time.process_time()
        spline = way(x, y, pieces, seed)
        seconds = time.process_time() - begin
        with torch.no_grad():
            found[name] = errors(spline(fresh)[:, 0], f(fresh)) | {"seconds": seconds}
    return found


def _good(x: Tensor, y: Tensor, pieces: int, seed: int) -> MaxAffineSpline:
    return MaxAffineSpline.from_samples(x, y, pieces)


def _alternating(x: Tensor, y: Tensor, pieces: int, seed: int) -> MaxAffineSpline:
    """Magnani and Boyd, best of ten: a random partition, a fit of each cell, the cells of their maximum."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    best: tuple[float, Tensor] | None = None
    for _ in range(RESTARTS):
        cells = (x @ torch.randn(x.shape[1], pieces, generator=generator, dtype=x.dtype)).argmax(1)
        for _ in range(100):
            fits = []
            for piece in range(pieces):
                part = rows[cells == piece]
                if len(part) > x.shape[1]:
                    fits.append(torch.linalg.lstsq(part, y[cells == piece][:, None], driver="gelsd").solution[:, 0])
            found = torch.stack(fits)
            loss = float(((rows @ found.T).amax(1) - y).square().mean())
            if best is None or loss < best[0]:
                best = (loss, found)
            fresh = (rows @ found.T).argmax(1)
            if torch.equal(fresh, cells):
                break
            cells = fresh
    assert best is not None
    return MaxAffineSpline(best[1][None, :, :-1], best[1][None, :, -1])


def _random(x: Tensor, y: Tensor, pieces: int, seed: int) -> MaxAffineSpline:
    """A spline whose pieces are drawn, as layers are, trained by its gradient."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(1, pieces, x.shape[1] + 1, generator=generator, dtype=x.dtype) / x.shape[1] ** 0.5
    return _trained(MaxAffineSpline(rows[..., :-1], rows[..., -1]), x, y)


def _both(x: Tensor, y: Tensor, pieces: int, seed: int) -> MaxAffineSpline:
    return _trained(MaxAffineSpline.from_samples(x, y, pieces, steps=0), x, y)


def _trained(spline: MaxAffineSpline, x: Tensor, y: Tensor) -> MaxAffineSpline:
    """By Adam on all samples at once, its rate falling to zero along a cosine."""
    adam = torch.optim.Adam(spline.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, EPOCHS)
    for _ in range(EPOCHS):
        adam.zero_grad()
        (spline(x)[:, 0] - y).square().mean().backward()
        adam.step()
        schedule.step()
    return spline


WAYS = {
    "from_samples": _good,
    "alternating least squares, best of ten": _alternating,
    "Adam from a random start": _random,
    "Adam from from_samples' start": _both,
}
