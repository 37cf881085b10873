"""The link to K-means: the slopes and offsets whose codes are the nearest centroids, and what rounding can change."""

from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from maxaffine._spline.checks import check_dense, check_finite
from maxaffine.errors import BadInput, ShapeMismatch

# Rows of centroids, or pairs of them, compared at a time: bounds the memory of large codebooks.
_ROWS = 1024


def quantizer(centroids: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Slopes, offsets and, where a codebook repeats a centroid, pieces present of the spline of (K, R, D)."""
    check_dense("centroids", centroids)
    if centroids.ndim not in (2, 3):
        raise ShapeMismatch(f"centroids: shape {tuple(centroids.shape)}; give (K, R, D) or (R, D)")
    if not centroids.is_floating_point() or centroids.numel() == 0:
        raise BadInput("centroids: empty, or not floating point; give at least one centroid of one feature")
    check_finite("centroids", centroids)
    slopes = (centroids if centroids.ndim == 3 else centroids[None]).detach()
    # Summed in double precision and rounded once.
    squares = _total(slopes.double().square())
    offsets = (-squares / 2).to(slopes.dtype)
    if not bool(torch.isfinite(offsets).all()):
        raise BadInput(f"centroids: so large that their squares overflow {slopes.dtype}; scale them, or use .double()")
    repeated = torch.stack([_repeats(codebook) for codebook in slopes])
    _require_apart(slopes, squares, repeated)
    return slopes, offsets, ~repeated if bool(repeated.any()) else None


def _repeats(codebook: Tensor) -> Tensor:
    """Which rows of (R, D) equal an earlier one."""
    _, group = codebook.unique(dim=0, return_inverse=True)
    rows = torch.arange(len(codebook), device=codebook.device)
    first = torch.full_like(rows, len(rows)).scatter_reduce(0, group, rows, "amin")
    return rows > first[group]


def _require_apart(slopes: Tensor, squares: Tensor, repeated: Tensor) -> None:
    """Refuse centroids of which one could lose at its own place: rounding may swallow their differences."""
    for unit, (codebook, sizes, repeat) in enumerate(zip(slopes, squares, repeated, strict=True)):
        pair = _first_confusion(codebook, sizes, ~repeat)
        if pair is not None:
            wider = "" if codebook.dtype == torch.float64 else ", or use .double() for both"
            raise BadInput(
                f"centroids: {codebook.dtype} cannot tell centroids {pair[0]} and {pair[1]} of unit {unit} apart at"
                f" their distance from the origin; subtract the mean of the data from centroids and inputs{wider}"
            )


def _first_confusion(codebook: Tensor, squares: Tensor, kept: Tensor) -> tuple[int, int] | None:
    """The first pair r, s of kept rows of (R, D) of which s could win at r in some order of summation."""
    rows, every, double = codebook.double(), torch.arange(len(codebook), device=codebook.device), torch.float64
    relative, least = _losses(codebook.dtype, codebook.shape[1])
    own = torch.finfo(double)
    for some in every.split(_ROWS):
        # At r the scores differ by |r - s|^2 / 2. They are sums of numbers whose sizes add up to no more than
        # |r|^2 + |r|^2 / 2 for r and, as 2 |r_d s_d| <= r_d^2 + s_d^2, to (|r|^2 + |s|^2) / 2 + |s|^2 / 2 for s.
        bounds = 2 * (relative * (2 * squares[some, None] + squares) + least)
        sizes = squares[some, None] + squares
        # Products sort out the pairs that are far apart whatever they have lost themselves; they decide nothing.
        slack = 2 * (codebook.shape[1] + 8) * (own.eps * sizes + own.tiny)
        near = (sizes - 2 * rows[some] @ rows.T <= bounds + slack) & kept & kept[some, None]
        near &= some[:, None] != every
        for pairs in near.nonzero().split(_ROWS):
            mine, other = some[pairs[:, 0]], pairs[:, 1]
            lost = _total((rows[mine] - rows[other]).square()) <= bounds[pairs[:, 0], other]
            if bool(lost.any()):
                first = int(lost.nonzero()[0])
                return int(mine[first]), int(other[first])
    return None


def _losses(dtype: torch.dtype, in_features: int) -> tuple[float, float]:
    """What a score may lose to rounding, relative to the sizes of what it sums, and what to underflow."""
    # Sums of halves are accumulated in single precision, and then rounded. In any other dtype a product is rounded once
    # and then added to others up to D times; an offset may have been rounded `_levels` + 1 times before.
    given = torch.finfo(dtype)
    summed = given if given.bits >= 32 else torch.finfo(torch.float32)
    relative = gamma(in_features + _levels(in_features), summed.eps / 2) + gamma(3, given.eps / 2)
    return relative, in_features * summed.tiny + 3 * given.tiny


def _levels(count: int) -> int:
    """How many times `_total` halves."""
    return (count - 1).bit_length()


def _total(values: Tensor) -> Tensor:
    """Sums along the last axis in one fixed order, so that every processor rounds them alike: halves are added."""
    for _ in range(_levels(values.shape[-1])):
        half = (values.shape[-1] + 1) // 2
        low, high = values[..., :half], values[..., half:]
        values = low + F.pad(high, (0, low.shape[-1] - high.shape[-1]))
    return values[..., 0]


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


def gamma(terms: int, unit: float) -> float:
    """Bound n u / (1 - n u) on the relative error of n roundings in a row; infinite where none is known."""
    # N. Higham, Accuracy and Stability of Numerical Algorithms (2nd edition, 2002), lemma 3.1.
    return terms * unit / (1 - terms * unit) if terms * unit < 1 else inf
