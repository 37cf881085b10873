"""Random codes, and neighbors found by a loop over units."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from maxaffine._codes import Codes

LAYOUT = {"relu": (2, (70,)), "prelu": (3, (4, 5)), "pool": (4, (3, 3)), "wide": (9, (13,)), "many": (300, (5,))}
LAYOUT |= {"affine": (1, (6,)), "nothing": (2, (0,))}


def drawn(batch: int, seed: int, layout: Mapping[str, tuple[int, tuple[int, ...]]] = LAYOUT) -> Codes:
    """Codes that often agree, so that ties and zero distances occur too."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (pieces, units) in layout.items():
        values = torch.randint(0, pieces, (batch, *units), generator=generator)
        keep = torch.rand(batch, *[1] * len(units), generator=generator) < 0.5
        tensors[name] = (torch.where(keep, values, torch.zeros_like(values)), pieces)
    return Codes.from_tensors(tensors, batch=batch)


def naive_distance(a: Codes, b: Codes, weights: Mapping[str, float]) -> torch.Tensor:
    """(Na, Nb) float64, one unit of one pair at a time, in the order of the operators that can switch."""
    total, norm = torch.zeros(a.batch, b.batch, dtype=torch.float64), 0.0
    for name, weight in weights.items():
        x, y = (codes[name].unpack().flatten(1).long() for codes in (a, b))
        if a[name].pieces == 1 or not x.shape[1]:
            continue
        norm += weight
        for n in range(a.batch):
            for m in range(b.batch):
                total[n, m] += weight * (int((x[n] != y[m]).sum()) / x.shape[1])
    return total / (norm or 1.0)


def sorted_neighbors(distances: torch.Tensor, ids: torch.Tensor, k: int) -> tuple[list, list]:
    """Ids and distances of the k nearest, ties by the lower id."""
    best = [sorted(zip(row, ids.tolist(), strict=True))[:k] for row in distances.tolist()]
    return [[i for _, i in row] for row in best], [[d for d, _ in row] for row in best]
