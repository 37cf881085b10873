"""Families of smooth networks: their slopes against the untouched module with its gates detached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import maxaffine as ma
from tests.zoo.networks import Net

torch.manual_seed(0)
X = torch.randn(3, 8, 16, dtype=torch.float64)
IMAGES = torch.randn(3, 4, 8, 8, dtype=torch.float64)
SLOPE = -(torch.arange(8)[:, None] - torch.arange(8)).abs().double()


def gated_mixing(m: Any, x: Tensor) -> Tensor:
    u, v = F.gelu(m.a(m.n(x))).chunk(2, -1)
    return x + m.b(u * m.z(m.k(v).mT).mT)


def standardized(m: Any, x: Tensor) -> Tensor:
    weight = m.c.weight - m.c.weight.mean((1, 2, 3), keepdim=True)
    return F.gelu(F.conv2d(x, weight / (m.c.weight.std((1, 2, 3), keepdim=True) + 1e-5)))


def experts(m: Any, x: Tensor) -> Tensor:
    units = torch.stack([F.gelu(m.a(x)), F.silu(m.b(x))], -2)
    return (m.g(x).softmax(-1)[..., None] * units).sum(-2)


def attend(m: Any, q: Tensor, k: Tensor, x: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    return (q @ k.mT + bias).softmax(-1) @ m.v(x)


FAMILIES: dict[str, tuple[Callable, dict[str, nn.Module], Tensor]] = {
    "squeeze_and_excite": (
        lambda m, x: m.c(x) * F.hardsigmoid(m.b(F.relu(m.a(x.mean((2, 3))))))[..., None, None],
        {"a": nn.Linear(4, 2), "b": nn.Linear(2, 4), "c": nn.Conv2d(4, 4, 3)},
        IMAGES,
    ),
    "mixer": (
        lambda m, x: x + m.b(F.gelu(m.a(m.n(x).mT))).mT,
        {"a": nn.Linear(8, 12), "b": nn.Linear(12, 8), "n": nn.LayerNorm(16)},
        X,
    ),
    "gated_mixing": (
        gated_mixing,
        {"a": nn.Linear(16, 24), "b": nn.Linear(12, 16), "n": nn.LayerNorm(16)}
        | {"k": nn.LayerNorm(12), "z": nn.Linear(8, 8)},
        X,
    ),
    "linear_bias_attention": (
        lambda m, x: attend(m, m.q(x), m.k(x), x, SLOPE),
        {name: nn.Linear(16, 16) for name in "qkv"},
        X,
    ),
    "cosine_attention": (
        lambda m, x: attend(m, F.normalize(m.q(x), dim=-1), F.normalize(m.k(x), dim=-1), x),
        {name: nn.Linear(16, 16) for name in "qkv"},
        X,
    ),
    "gru_of_features": (
        lambda m, x: m.g(F.gelu(m.c(x)).flatten(2).mT)[0][:, -1],
        {"c": nn.Conv2d(4, 6, 3, 2), "g": nn.GRU(6, 5, batch_first=True)},
        IMAGES,
    ),
    "standardized_weights": (standardized, {"c": nn.Conv2d(4, 6, 3)}, IMAGES),
    "soft_experts": (experts, {"g": nn.Linear(16, 2), "a": nn.Linear(16, 6), "b": nn.Linear(16, 6)}, X),
    "radial_units": (
        lambda m, x: m.a(torch.exp(-((x[..., None] - torch.arange(-2.0, 3.0)) ** 2)).flatten(-2)) + m.b(F.silu(x)),
        {"a": nn.Linear(80, 3), "b": nn.Linear(16, 3)},
        X,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_slopes(name: str) -> None:
    forward, modules, x = FAMILIES[name]
    model = Net(forward, **modules).double().eval()
    report = ma.capture(model, x, smooth="frozen").verify(model, x)
    assert report.residuals["slopes"] < 1e-13 and not report.unchecked
