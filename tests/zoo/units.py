"""Cases about one nonlinearity between two linear layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.case import Case
from tests.zoo.networks import InputConvex, Net, mlp


def activation(name: str, factory: Callable[[], nn.Module], **properties: Any) -> Case:
    """Two uses of an activation module in a 6-8-8-3 network."""
    return Case(f"mlp_{name}", lambda: mlp(factory), **properties)


def unit(name: str, function: Callable[[Tensor], Tensor], width: int = 8, **properties: Any) -> Case:
    """A function of 8 numbers between two linear layers, the second of which reads ``width`` numbers."""

    def factory() -> nn.Module:
        return Net(lambda m, x: m.b(function(m.a(x))), a=nn.Linear(6, 8), b=nn.Linear(width, 3))

    return Case(name, factory, **properties)


def convex_unit(name: str, function: Callable[[Tensor], Tensor]) -> Case:
    """A convex function of an affine map, with nothing behind it."""
    return Case(name, lambda: Net(lambda m, x: function(m.a(x)), a=nn.Linear(6, 8)), convex=True)


def ramp(x: Tensor, low: float, high: float) -> Tensor:
    """Eight constants from ``low`` to ``high``."""
    return torch.linspace(low, high, 8, dtype=x.dtype, device=x.device)


ACTIVATION_MODULES = (
    activation("relu", nn.ReLU),
    activation("relu_inplace", partial(nn.ReLU, inplace=True)),
    activation("leaky_relu", partial(nn.LeakyReLU, 0.1)),
    activation("leaky_relu_negative_slope", partial(nn.LeakyReLU, -0.5)),
    activation("leaky_relu_steep", partial(nn.LeakyReLU, 1.5)),
    activation("prelu", partial(nn.PReLU, 8)),
    activation("prelu_one_slope", nn.PReLU),
    activation("rrelu", nn.RReLU),
    activation("hardtanh", partial(nn.Hardtanh, -0.5, 0.8)),
    activation("relu6", nn.ReLU6),
    activation("hardsigmoid", nn.Hardsigmoid),
    activation("hardshrink", partial(nn.Hardshrink, 0.3), continuous=False),
    activation("softshrink", partial(nn.Softshrink, 0.3)),
    activation("threshold", partial(nn.Threshold, 0.2, -0.1), continuous=False),
    activation("threshold_zero", partial(nn.Threshold, 0.0, 0.0)),
    Case("mlp_biasless", lambda: mlp(nn.ReLU, bias=False), biasless=True),
)

FUNCTIONS = (
    unit("abs", torch.abs),
    unit("relu_method", lambda x: x.relu()),
    unit("relu_of_negative", lambda x: -F.relu(-x)),
    unit("crelu", lambda x: torch.cat([F.relu(x), F.relu(-x)], 1), width=16),
    unit("hinge", lambda x: F.relu(1 - x)),
    unit("clamp", lambda x: x.clamp(-0.5, 0.7)),
    unit("clamp_min", lambda x: x.clamp(min=-0.2)),
    unit("clamp_max", lambda x: torch.clamp_max(x, 0.3)),
    unit("clamp_by_tensors", lambda x: torch.clamp(x, min=ramp(x, -1, 0), max=ramp(x, 0.2, 0.9))),
    unit("maximum_with_constant", lambda x: torch.maximum(x, ramp(x, -1, 1))),
    unit("minimum", lambda x: torch.minimum(x[:, :4], x[:, 4:]), width=4),
    unit("max_then_min", lambda x: torch.minimum(torch.maximum(x[:, :4], x[:, 4:]), x[:, 2:6]), width=4),
    unit("maxout_maximum", lambda x: torch.maximum(x[:, :4], x[:, 4:]), width=4),
    unit("maxout_amax", lambda x: x.view(-1, 4, 2).amax(2), width=4),
    unit("maxout_max_of_dim", lambda x: x.view(-1, 2, 4).max(dim=1).values, width=4),
    unit("amin", lambda x: x.view(-1, 4, 2).amin(-1), width=4),
    unit("min_of_dim_keepdim", lambda x: x.view(-1, 4, 2).min(dim=2, keepdim=True)[0].squeeze(2), width=4),
    unit("amax_of_two_dims", lambda x: x.view(-1, 2, 2, 2).amax((1, 3)), width=2),
    unit("gate_by_comparison", lambda x: x * (x > 0)),
    unit("gate_by_cast_comparison", lambda x: x * (x > 0).to(x.dtype)),
    unit("gate_by_threshold", lambda x: x * (x >= 0.3), continuous=False),
    unit("where_on_comparison", lambda x: torch.where(x > 0, x, 0.1 * x)),
    unit("where_on_two_values", lambda x: torch.where(x[:, :4] > x[:, 4:], x[:, :4], -x[:, 4:]), 4, continuous=False),
    unit("where_on_another_value", lambda x: torch.where(x[:, :4] > 0.1, x[:, 4:], 0.5), 4, continuous=False),
    unit("masked_fill", lambda x: x.masked_fill(x < 0, 0.0)),
    unit("l1_distance", lambda x: (x.unsqueeze(1) - torch.eye(3, 8, dtype=x.dtype)).abs().sum(-1), width=3),
)

SELECTIONS = tuple(
    unit(
        name,
        function,
        width,
        optional=True,
        continuous=name not in {"where_on_interval", "sign", "gather_by_another_argmax"},
    )
    for name, function, width in (
        ("where_on_interval", lambda x: torch.where((x > -0.5) & (x < 1.0), x, x.abs()), 8),
        ("sign", lambda x: x + 0.5 * torch.sign(x), 8),
        ("product_with_own_sign", lambda x: x * x.sign(), 8),
        ("clamp_by_dependent", lambda x: torch.clamp(x[:, :4], max=x[:, 4:]), 4),
        ("max_norm", lambda x: torch.linalg.vector_norm(x, ord=float("inf"), dim=1, keepdim=True), 1),
        ("l1_norm", lambda x: torch.linalg.vector_norm(x, ord=1, dim=1, keepdim=True), 1),
        ("sort", lambda x: x.sort(dim=1).values, 8),
        ("sort_pairs_descending", lambda x: x.view(-1, 4, 2).sort(-1, descending=True)[0].flatten(1), 8),
        ("topk", lambda x: x.topk(3, dim=1).values, 3),
        ("median", lambda x: x.view(-1, 2, 4).median(dim=2).values, 2),
        ("kthvalue", lambda x: x.view(-1, 2, 4).kthvalue(2, dim=2).values, 2),
        ("cummax", lambda x: x.cummax(dim=1).values, 8),
        ("gather_by_own_argmax", lambda x: x.gather(1, x.argmax(1, keepdim=True)), 1),
        ("gather_by_another_argmax", lambda x: x[:, :4].gather(1, x[:, 4:].argmax(1, keepdim=True)), 1),
    )
)

CONVEX = (
    Case("input_convex", InputConvex, convex=True),
    convex_unit("convex_relu", F.relu),
    convex_unit("convex_leaky_relu", lambda x: F.leaky_relu(x, 0.1)),
    convex_unit("convex_abs", lambda x: 3 * x.abs() - 1),
    convex_unit("convex_maxout", lambda x: x.view(-1, 2, 4).amax(2)),
    convex_unit("convex_sum", lambda x: (F.relu(x) + torch.maximum(x, -2 * x)).sum(1, keepdim=True)),
)

UNITS = ACTIVATION_MODULES + FUNCTIONS + SELECTIONS + CONVEX
