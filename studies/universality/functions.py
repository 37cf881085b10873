"""The functions that are fitted: smooth and convex ones, and one that is not convex."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def squared_norm(features: int, seed: int) -> Function:
    """|x|^2, whose curvature is the same everywhere."""
    return lambda x: x.square().sum(1)


def log_sum_exp(features: int, seed: int) -> Function:
    """A smooth maximum of eight affine functions, and a tenth of |x|^2 that keeps it curved everywhere."""
    generator = torch.Generator().manual_seed(seed)
    rows = 3 * torch.randn(8, features, generator=generator, dtype=torch.float64) / features**0.5
    return lambda x: (x @ rows.T).logsumexp(1) + 0.1 * x.square().sum(1)


def waves(features: int, seed: int) -> Function:
    """A product of waves: as convex as concave."""
    shift = torch.rand(features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lambda x: torch.sin(4 * x + 6 * shift).prod(1)


FUNCTIONS = {"squared norm": squared_norm, "log-sum-exp": log_sum_exp, "waves": waves}


def samples(count: int, features: int, seed: int) -> Tensor:
    """Inputs drawn uniformly from the cube [-1, 1]^D."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, features, generator=generator, dtype=torch.float64) - 1
