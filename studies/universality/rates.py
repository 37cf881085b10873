"""The error of fits by their number of pieces."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from maxaffine import MaxAffineSpline
from maxaffine.sklearn import MaxAffineRegressor

from .functions import FUNCTIONS, Function, samples

FRESH = 20_000  # inputs that no fit has seen
PIECES = (4, 8, 16, 32, 64)
SEEDS = range(5)


def errors(values: Tensor, truth: Tensor) -> dict[str, float]:
    """Root mean square and largest error, in standard deviations of the truth."""
    error = (values - truth) / truth.std()
    return {"rms": float(error.square().mean().sqrt()), "largest": float(error.abs().max())}


def tangents(function: Function, x: Tensor, pieces: int, seed: int) -> MaxAffineSpline:
    """The maximum of the tangents at centers of K-means: what the proof of the rate builds; it never exceeds f."""
    clusters = KMeans(pieces, random_state=seed).fit(x.numpy())
    centers = torch.tensor(clusters.cluster_centers_).requires_grad_()
    values = function(centers)
    (slopes,) = torch.autograd.grad(values.sum(), centers)
    offsets = values.detach() - (slopes * centers.detach()).sum(1)
    return MaxAffineSpline(slopes[None], offsets[None])


def measure(function: str, features: int) -> dict[str, Any]:
    """The errors of every seed, by way and number of pieces."""
    return {str(pieces): [_errors(function, features, pieces, seed) for seed in SEEDS] for pieces in PIECES}


def _errors(function: str, features: int, pieces: int, seed: int) -> dict[str, dict[str, float]]:
    """The errors at fresh inputs: of the fit and the tangents of a convex function, else of one maximum and two."""
    f = FUNCTIONS[function](features, seed)
    # Enough samples for each piece that what is fitted is the function and not the sample.
    x, fresh = samples(max(2000, 40 * pieces * (features + 1)), features, seed), samples(FRESH, features, 1000 + seed)
    truth = f(fresh)
    if function == "waves":
        one, two = MaxAffineRegressor(pieces), MaxAffineRegressor(pieces // 2, pieces // 2)
        fits = {"one": one.fit(x, f(x)), "two": two.fit(x, f(x))}
        return {name: errors(torch.tensor(fit.predict(fresh)), truth) for name, fit in fits.items()}
    splines = {"fitted": MaxAffineSpline.from_samples(x, f(x), pieces), "tangents": tangents(f, x, pieces, seed)}
    return {name: errors(spline(fresh)[:, 0].detach(), truth) for name, spline in splines.items()}
