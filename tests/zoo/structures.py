"""Cases about how a network is put together: sharing, in-place calls, several inputs and outputs, constants, shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.zoo.case import SERIES, STEPS, VECTOR, Case, Shapes
from tests.zoo.networks import CellLoop, DenseMLP, HandRecurrent, Net, Recurrent, ResidualMLP, Tied, mlp


def wired(
    name: str,
    function: Callable[..., Any],
    parts: Callable[[], dict[str, Any]],
    shapes: Shapes = VECTOR,
    **properties: Any,
) -> Case:
    """A function of a module's parts and its inputs."""
    return Case(name, lambda: Net(function, **parts()), shapes, **properties)


def shape(name: str, function: Callable[[Tensor], Tensor], **properties: Any) -> Case:
    """A rearrangement of 4 x 6 numbers between two leaky relus, with a different weight for each of its results."""

    def forward(m: Any, x: Tensor) -> Tensor:
        z = function(F.leaky_relu(m.a(x).view(-1, 4, 6), 0.3)).flatten(1)
        return F.leaky_relu(z * torch.linspace(-1, 1, z.shape[1], dtype=x.dtype) + 0.1, 0.2)

    return Case(f"shape_{name}", lambda: Net(forward, a=nn.Linear(6, 24)), **properties)


def two_layers() -> dict[str, Any]:
    """Linear layers 6-8 and 8-3."""
    return {"a": nn.Linear(6, 8), "b": nn.Linear(8, 3)}


def inplace(m: Any, x: Tensor) -> Tensor:
    """Arithmetic, an activation and slices, all written into one tensor."""
    z = m.a(x)
    z += 0.5
    z *= 2
    z[:, :2] = 0.25
    z[:, 2:4] -= z[:, 4:6]
    return m.b(F.leaky_relu_(z, 0.2))


def filled(m: Any, x: Tensor) -> Tensor:
    """A buffer of zeros, filled slice by slice."""
    z = torch.zeros(x.shape[0], 8, dtype=x.dtype, device=x.device)
    z[:, 1:4] = x[:, :3].relu()
    z[:, 5:] = x[:, 3:]
    return m.b(z)


def computed_weights(m: Any, x: Tensor) -> Tensor:
    """Every weight is itself a nonlinear function of parameters."""
    return F.leaky_relu(F.linear(F.relu(x * m.g.sigmoid()), m.w.softmax(1), m.g[:4])) / m.g.exp()[:4]


MODULES = (
    Case("identity", nn.Identity, affine=True, convex=True, biasless=True),
    Case("affine_only", lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)), affine=True, convex=True),
    Case("residual", ResidualMLP),
    Case("dense", DenseMLP),
    Case("tied", Tied),
    Case("nested", lambda: nn.Sequential(nn.Sequential(nn.Sequential(mlp(nn.ReLU)), nn.ReLU()), nn.Linear(3, 2))),
    Case("dropout", lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))),
    Case("batch_norm_1d", lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))),
    Case("weight_norm", lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU()), convex=True),
    Case(
        "spectral_norm", lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 8)), nn.ReLU()), convex=True
    ),
    wired("functional", lambda m, x: F.linear(F.relu(F.linear(x, m.a.weight)), m.b.weight, m.b.bias), two_layers),
    wired("inplace", inplace, two_layers),
    wired("filled", filled, two_layers),
    wired("reused_layer", lambda m, x: m.a(F.relu(m.a(F.relu(m.a(x))))), lambda: {"a": nn.Linear(6, 6)}),
    wired("reused_relu", lambda m, x: m.b(m.r(m.a(m.r(x)))), lambda: two_layers() | {"r": nn.ReLU()}),
    wired(
        "computed_weights",
        computed_weights,
        lambda: {"g": torch.randn(6), "w": nn.Parameter(torch.randn(4, 6))},
        convex=True,
    ),
)

INPUTS_AND_OUTPUTS = (
    wired("two_inputs", lambda m, x, y: m.b(F.relu(m.a(x) - y)), two_layers, ((6,), (8,))),
    wired("siamese", lambda m, x, y: (m.f(x) - m.f(y)).abs(), lambda: {"f": mlp(nn.ReLU)}, ((6,), (6,))),
    wired("unused_input", lambda m, x, y: m.f(x), lambda: {"f": mlp(nn.ReLU)}, ((6,), (4,))),
    wired(
        "image_and_vector",
        lambda m, x, y: F.leaky_relu(m.b(torch.cat([m.conv(x).relu().mean((2, 3)), y], 1))),
        lambda: {"conv": nn.Conv2d(1, 3, 3), "b": nn.Linear(7, 2)},
        ((1, 6, 6), (4,)),
    ),
    wired("tuple_output", lambda m, x: (m.b(F.relu(m.a(x))), m.a(x).abs()), two_layers, outputs=2),
    wired("dict_output", lambda m, x: {"logits": m.b(m.a(x).relu()), "norms": m.a(x).abs()}, two_layers, outputs=2),
    wired("scalar_output", lambda m, x: m.b(F.relu(m.a(x))).sum(1), two_layers),
    wired("nested_output", lambda m, x: {"pair": (m.f(x), [x])}, lambda: {"f": mlp(nn.ReLU)}, outputs=2),
)

CONSTANTS = (
    wired(
        "arithmetic",
        lambda m, x: 3 - F.relu(2 * x - 1) / 4 + torch.add(x, m.c, alpha=2) - (-x),
        lambda: {"c": torch.randn(6)},
    ),
    wired(
        "addcmul_lerp",
        lambda m, x: torch.addcmul(x.relu(), m.c, x, value=0.5).lerp(m.c, 0.3),
        lambda: {"c": torch.randn(6)},
        convex=True,
    ),
    wired(
        "normalized",
        lambda m, x: m.f((x - m.c) / m.s),
        lambda: {"c": torch.rand(6), "s": torch.rand(6) + 0.5, "f": mlp(nn.ReLU)},
    ),
    wired(
        "einsum",
        lambda m, x: torch.einsum("nij,jk->nik", F.relu(torch.einsum("nd,dij->nij", x, m.t)), m.w),
        lambda: {"t": torch.randn(6, 3, 4), "w": torch.randn(4, 2)},
        biasless=True,
    ),
    wired(
        "matmul_from_the_left",
        lambda m, x: (m.b @ F.relu(m.a @ x.unsqueeze(-1))).squeeze(-1),
        lambda: {"a": torch.randn(8, 6), "b": torch.randn(3, 8)},
        biasless=True,
    ),
    wired(
        "addmm", lambda m, x: torch.addmm(m.c, F.relu(x), m.w), lambda: {"c": torch.randn(3), "w": torch.randn(6, 3)}
    ),
    wired(
        "outer_product",
        lambda m, x: (x.unsqueeze(2) * m.w).relu().sum(1),
        lambda: {"w": torch.randn(6, 4)},
        convex=True,
        biasless=True,
    ),
    wired(
        "mixer",
        lambda m, x: m.b(F.relu(m.a(x.transpose(1, 2)).transpose(1, 2) + x)),
        lambda: {"a": nn.Linear(4, 4), "b": nn.Linear(3, 2)},
        STEPS,
    ),
    wired(
        "graph",
        lambda m, x: m.b(m.edges @ F.relu(m.a(m.edges @ x))),
        lambda: {"edges": torch.rand(4, 4), "a": nn.Linear(3, 5), "b": nn.Linear(5, 2)},
        STEPS,
    ),
    wired(
        "points",
        lambda m, x: m.b(m.conv(x).relu().amax(2)),
        lambda: {"conv": nn.Conv1d(2, 6, 1), "b": nn.Linear(6, 2)},
        SERIES,
    ),
)

SHAPES = (
    shape("slice", lambda x: x[:, 1:, ::2]),
    shape("negative_index", lambda x: x[:, -1, ..., None]),
    shape("index_list", lambda x: x[:, [2, 0, 2]]),
    shape("index_two_dims", lambda x: x[:, torch.tensor([0, 3, 1, 2, 2]), torch.tensor([5, 1, 0, 3, 4])]),
    shape("index_select", lambda x: x.index_select(2, torch.tensor([3, 1, 1]))),
    shape("gather_constant", lambda x: x.gather(2, torch.tensor([[[1, 0, 4]]]).expand(x.shape[0], 4, 3))),
    shape("mask_constant", lambda x: x[:, :, torch.tensor([True, False, True, True, False, False])], optional=True),
    shape("where_constant", lambda x: torch.where(torch.eye(4, 6, dtype=torch.bool), x, -0.5)),
    shape("flip", lambda x: x.flip(1, 2)),
    shape("roll", lambda x: x.roll((1, -2), (1, 2))),
    shape("rot90", lambda x: x.rot90(1, (1, 2))),
    shape("permute", lambda x: x.permute(0, 2, 1)),
    shape("movedim", lambda x: x.unsqueeze(3).movedim(3, 1).squeeze(1)),
    shape("reshape", lambda x: x.reshape(x.shape[0], 3, 8).transpose(1, 2).contiguous()),
    shape("unflatten", lambda x: x.unflatten(2, (2, 3)).flatten(1, 2)),
    shape(
        "chunk",
        lambda x: torch.stack([a - b for a, b in zip(x.chunk(2, 1), x.split(2, 1), strict=True)] + [x[:, 1:3]])[2],
    ),
    shape("split_sizes", lambda x: torch.cat(x.split([1, 5], 2)[::-1], 2)),
    shape("unbind", lambda x: torch.stack(x.unbind(1)[::-1], dim=2)),
    shape("expand", lambda x: x.mean(1, keepdim=True).expand(-1, 3, -1)),
    shape("repeat", lambda x: x.repeat(1, 2, 1) + x.tile(1, 2, 1)),
    shape("repeat_interleave", lambda x: x.repeat_interleave(2, dim=1)),
    shape("diagonal", lambda x: x.diagonal(1, 1, 2)),
    shape("triangles", lambda x: x.tril() - x.triu(1)),
    shape("sum_mean", lambda x: x.sum(2) - x.mean(2) + x.sum((1, 2), keepdim=True).squeeze(2)),
    shape("cumsum", lambda x: x.cumsum(1)),
    shape("diff", lambda x: x.diff(dim=2)),
    shape("pad", lambda x: F.pad(x, (1, -1, 0, 2), value=0.7)),
    shape("window", lambda x: x.unfold(2, 3, 2)),
    shape(
        "scatter_constant",
        lambda x: torch.zeros_like(x).scatter(2, torch.tensor([[[5, 2]]]).expand(x.shape[0], 4, 2), x[..., 1:3]),
    ),
    shape("index_add", lambda x: torch.ones_like(x).index_add(1, torch.tensor([1, 1, 0, 3]), x)),
    shape("conversion", lambda x: x.to(torch.float64).clone().to(x.dtype)),
)

RECURRENT = (
    Case("rnn", Recurrent, STEPS),
    Case("rnn_every_step", lambda: Recurrent(every_step=True), STEPS),
    Case("rnn_two_layers", lambda: Recurrent(num_layers=2, dropout=0.2), STEPS),
    Case("rnn_bidirectional", lambda: Recurrent(every_step=True, bidirectional=True), STEPS),
    Case("rnn_time_first", lambda: Recurrent(batch_first=False), STEPS),
    Case("rnn_biasless", lambda: Recurrent(bias=False, num_layers=2, bidirectional=True), STEPS),
    Case("rnn_cell_loop", CellLoop, STEPS),
    Case("rnn_by_hand", HandRecurrent, STEPS),
)

STRUCTURES = MODULES + INPUTS_AND_OUTPUTS + CONSTANTS + SHAPES + RECURRENT
