"""Systems of linear equations with a constant matrix are linear in the right-hand side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._capture import check_rule
from tests.contracts.case import beside
from tests.zoo.networks import Net

X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
linalg = torch.linalg


def net(function: Callable[..., Any]) -> nn.Module:
    drawn = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    lower = torch.randn(6, 6, generator=torch.Generator().manual_seed(2)).tril(-1) / 4 + torch.eye(6)
    return Net(function, matrix=drawn / 4 + 2 * torch.eye(6), lower=lower)


def inverted(m: Any, x: Tensor) -> Tensor:
    return beside(x @ linalg.inv(m.matrix), x @ linalg.pinv(m.matrix[:, :4]).T)


def test_inverses_of_constants() -> None:
    """Against the untouched module in both precisions; solves themselves have a contract."""
    check_rule(net(inverted), torch.zeros(2, 6))


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "own_matrix": (lambda m, x: linalg.solve(torch.diag_embed(x), x), "matrix that depends on the input.*cure: use a"),
    "own_triangle": (
        lambda m, x: linalg.solve_triangular(x.view(-1, 6, 1) + m.lower, m.matrix, upper=False),
        "matrix that depends on the input.*cure: use a",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, words = REFUSED[name]
    with pytest.raises(ma.NotPiecewiseAffine, match=f"(?s){words}"):
        ma.capture(net(function).double(), X)


def test_least_squares_name_the_cure() -> None:
    """Its number of residuals depends on the rank that is found; the pseudo-inverse gives the same solution."""
    with pytest.raises(ma.MaxAffineError, match=r"(?s)lstsq.*[Cc]ure: .*torch\.linalg\.pinv"):
        ma.capture(net(lambda m, x: linalg.lstsq(m.matrix[:, :4], x.T).solution.T).double(), X)
