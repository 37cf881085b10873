"""How far rows are from being orthogonal to one another."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def squared_products(rows: Tensor) -> Tensor:
    """Sum of the squared inner products of different rows of (..., C, D), in float32 at least."""
    return _SumOfPairs.apply(_at_least_float32(rows))


def squared_cosines(rows: Tensor) -> Tensor:
    """Sum of the squared cosines of different rows of (..., C, D), in float32 at least; zero rows count nothing."""
    rows = _at_least_float32(rows)
    # A row of zeros has no direction: its pairs count nothing and pass no gradient.
    alive = (rows != 0).any(-1, keepdim=True)
    # The norm of a row of zeros has no second derivative, so such a row is taken out before the division.
    rows = torch.where(alive, rows, 1.0)
    # Cosines do not change with the scale, nor do their derivatives: it keeps the squares of tiny and huge rows finite.
    directions = F.normalize(rows / rows.detach().abs().amax(-1, keepdim=True), dim=-1) * alive
    return _SumOfPairs.apply(directions)


def _at_least_float32(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


class _SumOfPairs(torch.autograd.Function):
    """sum_{c1 != c2} g_c1c2^2 of G = R R^T, with its gradient 4 (G - diag G) R made from the same products."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        products = _products(rows)
        ctx.save_for_backward(rows, 4 * products @ rows if ctx.needs_input_grad[0] else None)
        return products.square().sum((-2, -1))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        rows, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives it has to depend on the rows
            gradient = 4 * _products(rows) @ rows
        return grad_outputs[0][..., None, None] * gradient


def _products(rows: Tensor) -> Tensor:
    """The inner products of different rows, zero on the diagonal."""
    products = rows @ rows.mT
    products.diagonal(dim1=-2, dim2=-1).zero_()
    return products
