"""Every operator's local affine map: transposed maps agree, and A x + b is the operator's own value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._graph import LocalMap, Step, as_tuple, fuse
from tests.zoo.networks import Net, randomize


def image_network() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Convolutions of every kind, batch-norms, activations, poolings, a skip connection."""
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 2, dilation=2),
        nn.BatchNorm2d(4),
        nn.ReLU6(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 2, groups=2, bias=False),
        nn.LeakyReLU(0.2),
        nn.MaxPool2d(2, 1, 1),
        nn.ConvTranspose2d(4, 6, 2, 2, groups=2, output_padding=1),
        nn.BatchNorm2d(6),
        nn.PReLU(6),
        Net(lambda m, x: x + m.a(x), a=nn.Conv2d(6, 6, 1)),
        Net(lambda m, x: m.b(x - 0.5 * x.roll(1, 1)), b=nn.BatchNorm2d(6)),
        nn.AdaptiveMaxPool2d((2, 3)),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Flatten(),
        nn.Linear(6 * 4 * 6, 3),
    )
    return module, (torch.randn(2, 2, 12, 14, dtype=torch.float64),)


def other_ranks() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Convolutions and poolings in one and three dimensions."""

    def forward(m: Any, x: Tensor, y: Tensor) -> Tensor:
        lines = F.max_pool1d(m.line(x).relu(), 2)
        volumes = F.max_pool3d(F.hardtanh(m.volume(y), -0.5, 0.4), (2, 1, 2))
        return torch.cat([lines.flatten(1), volumes.flatten(1)], 1)

    module = Net(forward, line=nn.ConvTranspose1d(2, 3, 3, 2), volume=nn.Conv3d(1, 2, 2, padding=1))
    return module, (torch.randn(2, 2, 7, dtype=torch.float64), torch.randn(2, 1, 4, 3, 5, dtype=torch.float64))


def vector_network() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Matrix products on either side, choices, selections, splits, gathers, constants mixed in."""

    def forward(m: Any, x: Tensor, y: Tensor) -> Tensor:
        z = torch.einsum("nd,dij->nij", x, m.t) @ m.w + torch.maximum(y.unsqueeze(2), y[:, None])
        first, second = (m.w @ z).split([1, 3], 2)
        z = torch.cat([first.minimum(torch.zeros(1, dtype=x.dtype)), second.sort(1).values, z.topk(2, 2)[0]], 2)
        z = torch.where(z > 0.3, 1 - z, z.cummax(2).values)
        kept = z.masked_fill(torch.eye(4, 6, dtype=torch.bool), 0.25).amax((1, 2))
        return kept[:, None] + torch.addmm(m.c[0], x, m.c) * 2 - z.flatten(1)[:, :3]

    parts = {name: torch.randn(*shape, dtype=torch.float64) for name, shape in (("t", (3, 4, 4)), ("w", (4, 4)))}
    module = Net(forward, c=torch.randn(3, 3, dtype=torch.float64), **parts)
    return module, (torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64))


def smooth_network() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Norms, attention, gated units and curves, of entries and across them."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.group(x.mT).mT + m.norm(x)
        y = y + F.scaled_dot_product_attention(m.q(y), m.k(y), m.v(y))
        y = F.gelu(m.a(y)) * torch.sigmoid(m.b(y)) + F.softplus(y) / (1 + y.square())
        return m.c(y.mean(1)).softmax(1) + y.norm(dim=(1, 2))[:, None]

    parts = {name: nn.Linear(6, 6) for name in "qkvabc"}
    module = Net(forward, norm=nn.LayerNorm(6), group=nn.GroupNorm(2, 6), **parts)
    return module, (torch.randn(2, 4, 6, dtype=torch.float64),)


NETWORKS = {
    "images": image_network,
    "other_ranks": other_ranks,
    "vectors": vector_network,
    "frozen": smooth_network,
    "tangent": smooth_network,
}


@cache
def captured(name: str) -> tuple[ma.SplineNetwork, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    module, inputs = NETWORKS[name]()
    randomize(module)
    smooth = name if name in ("frozen", "tangent") else "refuse"
    return ma.capture(module.double().eval(), inputs, smooth=smooth), inputs


def local_maps(name: str, fused: bool) -> Iterator[tuple[Step, list[Tensor], Any, LocalMap]]:
    """Every step with a local map: the step, its active inputs, its value, and the map."""
    net, inputs = captured(name)
    graph = fuse(net.graph) if fused else net.graph
    for step, arguments, value, _ in graph.walk(inputs):
        if step.active:
            active = [arguments[place] for place in step.active]
            yield step, active, value, step.operator.local(arguments, value)


BOTH = [(name, fused) for name in NETWORKS for fused in (False, True)]
every_graph = pytest.mark.parametrize(("name", "fused"), BOTH)


@every_graph
def test_rmv_is_the_transpose_of_mv(name: str, fused: bool) -> None:
    rows = 3
    for step, active, _, local in local_maps(name, fused):
        tangents = [torch.randn_like(item) for item in active]
        pushed = local.mv(tangents)
        # Of several outputs (a maximum and its place) only those that depend on the input carry a cotangent.
        weights = [
            torch.randn(rows, *item.shape, dtype=item.dtype) if item is not None and item.is_floating_point() else None
            for item in pushed
        ]
        pulled = local.rmv(weights)
        pairs = [(w, p) for w, p in zip(weights, pushed, strict=True) if w is not None and p is not None]
        below = sum(((w * p).flatten(1).sum(1) for w, p in pairs), torch.zeros(rows))
        above = sum(
            ((q * t).flatten(1).sum(1) for q, t in zip(pulled, tangents, strict=True) if q is not None),
            torch.zeros(rows),
        )
        assert_close(above, below, rtol=1e-10, atol=1e-10, msg=lambda text, step=step: f"{step.records}: {text}")


@every_graph
def test_the_map_at_the_input_is_the_value(name: str, fused: bool) -> None:
    for step, active, value, local in local_maps(name, fused):
        found = local.mv(active)[0]
        assert found is not None
        for offset in local.offsets():
            found = found if offset is None else found + offset
        assert_close(found, as_tuple(value)[0], rtol=1e-11, atol=1e-11, msg=lambda t, step=step: f"{step.records}: {t}")


@every_graph
def test_the_map_is_linear(name: str, fused: bool) -> None:
    for _, active, _, local in local_maps(name, fused):
        one, two = ([torch.randn_like(item) for item in active] for _ in range(2))
        together = local.mv([a - 2 * b for a, b in zip(one, two, strict=True)])[0]
        apart = [local.mv(tangents)[0] for tangents in (one, two)]
        assert together is not None and apart[0] is not None and apart[1] is not None
        assert_close(together, apart[0] - 2 * apart[1], rtol=1e-11, atol=1e-11)


def test_every_kind_of_local_map_is_here() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    seen = {type(local) for name, fused in BOTH for *_, local in local_maps(name, fused)}
    library = {kind for kind in below(LocalMap) - {LocalMap} if kind.__module__.startswith("maxaffine")}
    assert seen == library


def test_several_rows_are_rows_one_by_one() -> None:
    for name in NETWORKS:
        for _, _, value, local in local_maps(name, True):
            output, *others = as_tuple(value)
            rows = torch.randn(3, *output.shape, dtype=output.dtype)
            rest = [None] * len(others)
            together = local.rmv([rows, *rest])
            for row in range(3):
                for whole, one in zip(together, local.rmv([rows[row : row + 1], *rest]), strict=True):
                    assert whole is not None and one is not None
                    assert_close(whole[row : row + 1], one, rtol=1e-12, atol=1e-12)


C = torch.randn(3, 4, dtype=torch.float64)
MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant second": lambda x: x + C,
    "constant first": lambda x: 2 + x,
    "twice a constant less": lambda x: torch.sub(x, C, alpha=2),
    "from a constant": lambda x: torch.sub(C, x, alpha=2),
    "spread by a constant": lambda x: x[:, :1] + C,
    "both the same": lambda x: x - x,
    "another type": lambda x: x + C.float(),
    "minus infinity beside a maximum": lambda x: (x + torch.tensor([0, -torch.inf, 0, 0])).amax(-1),
    "mean": lambda x: x.mean(-1),
    "mean of two axes": lambda x: x.mean((1, -1), keepdim=True),
    "sum": lambda x: x.sum(-2),
    "place": lambda x: x[:, 1],
    "last place": lambda x: x[..., -1],
    "pool to one": lambda x: F.adaptive_avg_pool2d(x, 1),
    "pool along one axis": lambda x: F.adaptive_avg_pool1d(x, 1),
    "pool to two": lambda x: F.adaptive_avg_pool1d(x, 2),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_have_the_slopes_that_pytorch_gives(name: str) -> None:
    module = Net(lambda _, x: MOVES[name](x)).eval()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    found = torch.as_tensor(ma.capture(module, x).affine_map(x).slopes)
    jacobian = torch.as_tensor(torch.autograd.functional.jacobian(lambda y: MOVES[name](y).sum(0), x))
    assert_close(found, jacobian.movedim(-3, 0), rtol=1e-14, atol=1e-14)
