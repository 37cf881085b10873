"""Slow re-derivations in float64: one pair of rows at a time, one entry of a Jacobian at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def pair_sum(rows: Tensor, compare: str) -> float:
    """sum_{c1 != c2} of squared products or cosines, by loops over Python numbers."""
    total = 0.0
    for i, a in enumerate(rows.double().tolist()):
        for j, b in enumerate(rows.double().tolist()):
            if i == j:
                continue
            product = math.fsum(u * v for u, v in zip(a, b, strict=True))
            if compare == "cosines":
                norms = math.sqrt(math.fsum(u * u for u in a)) * math.sqrt(math.fsum(v * v for v in b))
                product = product / norms if norms else 0.0
            total += product**2
    return total


def templates(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A[x] (N, C, D) of each sample alone, by reverse-mode differentiation in evaluation mode."""
    rows = [torch.autograd.functional.jacobian(lambda one: model(one[None])[0], sample) for sample in x]
    return torch.stack([torch.as_tensor(row).flatten(1) for row in rows])


def slope_of(function: Callable[[], Tensor], weight: nn.Parameter, place: tuple[int, ...], step: float = 1e-6) -> float:
    """Central difference of a function in one entry of a parameter."""
    with torch.no_grad():
        kept = weight[place].item()
        weight[place] = kept + step
        above = float(function())
        weight[place] = kept - step
        below = float(function())
        weight[place] = kept
    return (above - below) / (2 * step)
