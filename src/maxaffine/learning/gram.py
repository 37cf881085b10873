"""How far rows are from being orthogonal to one another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def squared_products(rows: Tensor) -> Tensor:
    """Sum of the squared inner products of different rows, sum_{c1 != c2} <rows_c1, rows_c2>^2.

    Args:
        rows: (..., C, D).

    Returns:
        (...), in float32 at least.

    >>> squared_products(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    tensor(18.)
    """
    rows = _at_least_float32(rows)
    return _sum_of_pairs(rows @ rows.mT)


def squared_cosines(rows: Tensor) -> Tensor:
    """Sum of the squared cosines of different rows, sum_{c1 != c2} cos(rows_c1, rows_c2)^2.

    A row of zeros has no direction: its pairs count nothing and pass no gradient.

    Args:
        rows: (..., C, D).

    Returns:
        (...), in float32 at least, each from 0 to C (C - 1).

    >>> squared_cosines(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]]))
    tensor(0.7200)
    """
    rows = _at_least_float32(rows)
    alive = (rows != 0).any(-1, keepdim=True)
    # The norm of a row of zeros has no second derivative, so such a row is taken out before the division.
    rows = torch.where(alive, rows, 1.0)
    # Cosines do not change with the scale, nor do their derivatives: it keeps the squares of tiny and huge rows finite.
    directions = F.normalize(rows / rows.detach().abs().amax(-1, keepdim=True), dim=-1) * alive
    return _sum_of_pairs(directions @ directions.mT)


def _at_least_float32(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def _sum_of_pairs(products: Tensor) -> Tensor:
    """Each pair once, twice counted: the cheapest of the ways to leave out the diagonal."""
    return 2 * products.tril(-1).square().sum((-2, -1))
