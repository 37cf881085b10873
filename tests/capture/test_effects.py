"""Operators with an effect beside their value: prints, checks that a matrix is regular, a library's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import maxaffine as ma
from tests.zoo.networks import Net

X = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ONE = torch.eye(4, dtype=torch.float64)


def net(function: Callable[..., Any]) -> nn.Module:
    return Net(function, a=nn.Linear(4, 4)).double()


def factor(m: Any) -> Tensor:
    return torch.linalg.cholesky(m.a.weight @ m.a.weight.T + ONE)


EXACT: dict[str, Callable[[], nn.Module]] = {
    "inverse": lambda: net(lambda m, x: (x @ torch.inverse(m.a.weight)).relu()),
    "cholesky": lambda: net(lambda m, x: (x @ factor(m)).relu()),
    "solve": lambda: net(lambda m, x: (x @ torch.linalg.solve(m.a.weight, ONE)).relu()),
    "two_in_a_row": lambda: net(lambda m, x: (x @ torch.inverse(factor(m))).relu()),
    "factors_and_pivots": lambda: net(lambda m, x: x @ torch.linalg.lu_factor(m.a.weight)[0]),
    "the_check_in_the_middle": lambda: net(lambda m, x: (m.a(x).relu() @ torch.inverse(m.a.weight)) + m.a(x)),
    "print": lambda: net(lambda m, x: (torch.ops.higher_order.print("x"), m.a(x).relu())[1]),
    "assertion_of_a_weight": lambda: net(
        lambda m, x: (torch.ops.aten._assert_async(m.a.weight.sum() < 99), m.a(x).relu())[1]
    ),
    "cayley_map": lambda: nn.Sequential(
        parametrizations.orthogonal(nn.Linear(4, 4).double(), orthogonal_map="cayley"), nn.ReLU()
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str) -> None:
    module = EXACT[name]().eval()
    network = ma.capture(module, X)
    assert torch.equal(network(X), module(X)) and network.verify(module, X).exact


def test_a_matrix_that_is_singular_fails_as_it_does_in_the_module() -> None:
    module = net(lambda m, x: x @ torch.inverse(m.a.weight))
    nn.init.zeros_(module.get_parameter("a.weight"))
    with pytest.raises(ma.CaptureError, match="failed on the example.*singular.*Cure: check that model.example. runs"):
        ma.capture(module, X)


def test_an_inverse_of_the_input_is_refused() -> None:
    with pytest.raises(ma.NotPiecewiseAffine, match="linalg_inv"):
        ma.capture(net(lambda m, x: torch.inverse(m.a.weight + x.sum(1)[:, None, None])), X)
