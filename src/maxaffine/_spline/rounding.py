"""What rounding can change about codes."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F


def gamma(terms: int, unit: float) -> float:
    """Bound n u / (1 - n u) on the relative error of n roundings in a row; infinite where none is known."""
    # N. Higham, Accuracy and Stability of Numerical Algorithms (2nd edition, 2002), lemma 3.1.
    return terms * unit / (1 - terms * unit) if terms * unit < 1 else inf


def is_decided(x: Tensor, slopes: Tensor, offsets: Tensor, scores: Tensor) -> Tensor:
    """Whether the largest of the scores (N, K, R) stays the largest whatever they have lost to rounding, (N, K)."""
    # A sum of n products, in any order, is within gamma_n sum |a_i x_i| of its value, with the unit roundoff u:
    # N. Higham, Accuracy and Stability of Numerical Algorithms (2nd edition, 2002), section 3.1.
    units, pieces, in_features = slopes.shape
    info = torch.finfo(scores.dtype)
    # D products and the offset, which may have D roundings of its own; then the comparison below.
    terms = 2 * in_features + 4
    if terms * info.eps >= 1:
        return torch.zeros(scores.shape[:2], dtype=torch.bool, device=scores.device)
    relative = gamma(terms, info.eps / 2)
    sizes = F.linear(x.abs(), slopes.abs().flatten(0, 1), offsets.abs().flatten()).unflatten(1, (units, pieces))
    # The sizes are rounded too, and products may underflow.
    bounds = sizes * (relative * (1 + 2 * relative)) + terms * info.tiny
    winner = scores.argmax(dim=2, keepdim=True)
    # Decided where the winner at its worst is above all others at their best.
    lowest = (scores - bounds).gather(2, winner)
    others = (scores + bounds).scatter(2, winner, -torch.inf)
    return (lowest > others.amax(dim=2, keepdim=True)).squeeze(2)
