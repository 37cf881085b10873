"""How far apart the boundaries of two units are."""

import torch
from torch import Tensor

RHO = 0.05  # weight of the offsets: one unit of distance from the origin counts as a twentieth of a right angle


def cosines(weights: Tensor) -> Tensor:
    """Cosines between all rows (K, D), (K, K); zero for a row of zeros."""
    length = weights.norm(dim=1, keepdim=True)
    unit = torch.where(length > 0, weights / length, 0)
    return (unit @ unit.mT).clamp(-1, 1)


def distances_between(weights: Tensor, offsets: Tensor, rho: float = RHO) -> Tensor:
    """1 - |cos(w, w')| + rho |b/|w| - s b'/|w'||, (K, K), s the sign of the cosine; infinite to itself."""
    # With the sign, units of opposite directions that share a boundary are at distance 0. A unit whose weights are zero
    # has no boundary, and is infinitely far.
    length = weights.norm(dim=1)
    cosine = cosines(weights)
    places = torch.where(length > 0, offsets / length, torch.inf)
    sign = torch.where(cosine < 0, -1.0, 1.0).to(weights)
    apart = 1 - cosine.abs() + rho * (places[:, None] - sign * places[None, :]).abs()
    apart = torch.where(torch.isnan(apart), torch.inf, apart)
    return apart.fill_diagonal_(torch.inf)
