"""A slow oracle of a partition of a line: codes at many places, each change between neighbors bisected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import maxaffine as ma

HALVINGS = 45


def ends(inputs: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """The first and the second sample."""
    first, second = (tuple(x[place : place + 1] for x in inputs) for place in (0, 1))
    return first, second


def between(x0: Any, x1: Any, t: Tensor) -> Any:
    """x(t), written down anew."""

    def mixed(pair: tuple[Tensor, Tensor]) -> Tensor:
        a, b = pair
        weight = t.view(-1, *([1] * (a.dim() - 1)))
        return (1 - weight) * a + weight * b

    return tuple(mixed(pair) for pair in zip(x0, x1, strict=True))


def codes_at(net: ma.SplineNetwork, x: Any, operators: list[str]) -> Tensor:
    """All codes as one row of integers per sample."""
    found = net.codes(x, operators=operators)
    rows = [item.unpack().flatten(1).long() for item in found.values()]
    return torch.cat(rows, 1) if rows else torch.zeros(tree_leaves(x)[0].shape[0], 0, dtype=torch.long)


def bisected(net: ma.SplineNetwork, x0: Any, x1: Any, operators: list[str], samples: int = 400) -> Tensor:
    """Places where the codes change, one for every pair of neighboring samples whose codes differ."""
    t = torch.linspace(0, 1, samples, dtype=torch.float64)
    t[1:-1] += 0.3 / samples  # off the symmetric places that hand-made networks use
    codes = codes_at(net, between(x0, x1, t), operators)
    changed = (codes[1:] != codes[:-1]).any(1)
    low, high, before = t[:-1][changed], t[1:][changed], codes[:-1][changed]
    for _ in range(HALVINGS if len(low) else 0):
        middle = (low + high) / 2
        same = (codes_at(net, between(x0, x1, middle), operators) == before).all(1)
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return high
