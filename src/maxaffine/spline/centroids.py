"""The link to K-means: the slopes and offsets whose codes are the nearest centroids."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from maxaffine.errors import BadInput, ShapeMismatch
from maxaffine.spline.checks import check_dense, check_finite

# Rows of centroids scored against their codebook at a time: bounds the memory of large codebooks.
_ROWS = 1024


def quantizer(centroids: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The parameters of the spline whose units are codebooks.

    Args:
        centroids: (K, R, D), or (R, D) for a single codebook.

    Returns:
        Slopes (K, R, D), offsets (K, R) and, where a codebook repeats a centroid, which pieces are present (K, R).

    Raises:
        ShapeMismatch: Not two or three dimensions.
        BadInput: No dense tensor, not floating point, empty, not finite, or not told apart in their dtype.
    """
    check_dense("centroids", centroids)
    if centroids.ndim not in (2, 3):
        raise ShapeMismatch(f"centroids has shape {tuple(centroids.shape)}; give (K, R, D) or (R, D)")
    if not centroids.is_floating_point() or centroids.numel() == 0:
        raise BadInput("centroids must be floating point and hold at least one centroid of at least one feature")
    check_finite("centroids", centroids)
    slopes = (centroids if centroids.ndim == 3 else centroids[None]).detach()
    # Summed in double precision and rounded once.
    offsets = (-slopes.double().square().sum(2) / 2).to(slopes.dtype)
    if not bool(torch.isfinite(offsets).all()):
        raise BadInput(
            f"centroids are so large that their squares overflow {slopes.dtype}; scale them, or use .double()"
        )
    repeated = torch.stack([_repeats(codebook) for codebook in slopes])
    _require_apart(slopes, offsets, repeated)
    return slopes, offsets, ~repeated if bool(repeated.any()) else None


def _repeats(codebook: Tensor) -> Tensor:
    """Which rows of (R, D) equal an earlier one."""
    _, group = codebook.unique(dim=0, return_inverse=True)
    rows = torch.arange(len(codebook), device=codebook.device)
    first = torch.full_like(rows, len(rows)).scatter_reduce(0, group, rows, "amin")
    return rows > first[group]


def _require_apart(slopes: Tensor, offsets: Tensor, repeated: Tensor) -> None:
    """Refuse centroids of which one is not even the winner at itself: rounding has swallowed their differences."""
    for unit, (codebook, heights, repeat) in enumerate(zip(slopes, offsets, repeated, strict=True)):
        heights = heights.masked_fill(repeat, -torch.inf)
        winners = torch.cat([F.linear(rows, codebook, heights).argmax(1) for rows in codebook.split(_ROWS)])
        wrong = (winners != torch.arange(len(codebook), device=codebook.device)) & ~repeat
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise BadInput(
                f"centroids: {codebook.dtype} cannot tell centroids {first} and {int(winners[first])} of unit {unit}"
                " apart at their distance from the origin; subtract the mean of the data from centroids and inputs, or"
                " use .double() for both"
            )
