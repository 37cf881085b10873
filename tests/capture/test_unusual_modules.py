"""Modules that do what one would rather not expect, and are exact all the same."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune
from torch.utils import checkpoint
from torch.utils._pytree import tree_leaves

import maxaffine as ma
from tests.zoo.networks import Net, mlp

UNREGISTERED = torch.linspace(-1, 1, 6, dtype=torch.float64)
KEPT = torch.tensor([True, False, True, True, False, False])
LOWEST = torch.finfo(torch.float64).min
X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Absolute(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.abs()


class Wrapper(nn.Module):
    """Passes on whatever it is given."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class Counting(nn.Module):
    """Counts its calls and keeps its last input."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.calls = mlp(nn.ReLU), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls, self.last = self.calls + 1, x
        return self.body(x)


class Deep(nn.Module):
    """50 layers on a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(50))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + 0.1 * layer(x).relu()
        return x


def net(function: Callable[..., Any], **parts: Any) -> nn.Module:
    return Net(function, **({"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)} | parts))


def parametrized() -> nn.Module:
    layer = nn.Linear(6, 6)
    parametrize.register_parametrization(layer, "weight", Absolute())
    return nn.Sequential(layer, nn.ReLU())


def pruned() -> nn.Module:
    module = mlp(nn.ReLU)
    prune.random_unstructured(module[2], "weight", 0.5)
    return module


def autocast(m: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        y = m.a(x)
    return y.to(x.dtype).relu()


def without_grad(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = m.a(x).relu()
    return m.b(y) + x


def filled(m: Any, x: Tensor) -> Tensor:
    out = torch.empty(x.shape[0], 12, dtype=x.dtype)
    out[:, :6], out[:, 6:] = m.a(x), m.b(x).relu_()
    return out


def appended(m: Any, x: Tensor) -> Tensor:
    states: list[Tensor] = []
    for layer in (m.a, m.b, m.a):
        states.append(layer(states[-1] if states else x).relu())
    return torch.stack(states, 1)


EXACT: dict[str, Callable[[], nn.Module]] = {
    "writes_into_its_input": lambda: net(lambda m, x: m.a(x.mul_(2)).relu()),
    "relu_of_its_input_in_place": lambda: net(lambda m, x: m.a(F.relu_(x))),
    "writes_through_a_view": lambda: net(lambda m, x: (y := m.a(x), y[:, :3].neg_(), y.relu())[2]),
    "returns_the_changed_input": lambda: net(lambda m, x: (x.add_(1), m.a(x))[0]),
    "returns_its_input": lambda: nn.Identity(),
    "empty_sequential": lambda: nn.Sequential(),
    "returns_a_view_of_its_input": lambda: net(lambda m, x: x.view(-1, 2, 3)[:, :, 1:]),
    "same_output_twice": lambda: net(lambda m, x: (lambda y: (y, y))(m.a(x).relu())),
    "output_and_input": lambda: net(lambda m, x: (m.a(x).relu(), x)),
    "constant_beside_a_value": lambda: net(lambda m, x: (m.a(x).relu(), m.a.bias)),
    "one_constant_per_sample": lambda: net(lambda m, x: (m.a(x), m.a.bias.expand(x.shape[0], -1))),
    "ignores_its_input": lambda: net(lambda m, x: m.a.bias.expand(x.shape[0], -1)),
    "zeros_like_its_input": lambda: net(lambda m, x: torch.zeros_like(x)),
    "times_zero": lambda: net(lambda m, x: m.a(x).relu() * 0),
    "difference_of_equals": lambda: net(lambda m, x: m.a(x).relu() - m.a(x).relu()),
    "integers_and_booleans": lambda: net(lambda m, x: (m.a(x).relu(), x > 0, m.a(x).argmax(1))),
    "named_tuple": lambda: net(lambda m, x: Pair(m.a(x).relu(), m.b(x))),
    "ordered_dict": lambda: net(lambda m, x: OrderedDict(z=m.a(x).relu(), a=m.b(x))),
    "nested": lambda: net(lambda m, x: {"deep": [(m.a(x),), {"x": m.b(x).abs()}]}),
    "empty_slice_out": lambda: net(lambda m, x: m.a(x).relu()[:, :0]),
    "empty_slice_inside": lambda: net(lambda m, x: torch.cat([m.a(x).relu()[:, :0], x], 1)),
    "unused_parameters": lambda: net(lambda m, x: m.a(x).relu(), c=nn.Linear(100, 100)),
    "unregistered_tensor": lambda: net(lambda m, x: m.a(x) * UNREGISTERED),
    "parametrized": parametrized,
    "pruned": pruned,
    "weights_computed_from_weights": lambda: net(lambda m, x: F.linear(x, m.a.weight @ m.b.weight).relu()),
    "without_grad": lambda: net(without_grad),
    "detached": lambda: net(lambda m, x: m.b(m.a(x).relu().detach()) + x),
    "asks_for_gradients": lambda: net(lambda m, x: m.a(x.requires_grad_()).relu()),
    "checkpoint": lambda: net(lambda m, x: checkpoint.checkpoint(m.f, x, use_reentrant=False), f=mlp(nn.ReLU)),
    "wrapper": lambda: Wrapper(Wrapper(mlp(nn.ReLU))),
    "data_parallel": lambda: nn.DataParallel(mlp(nn.ReLU)),
    "counting": Counting,
    "symbolically_traced": lambda: torch.fx.symbolic_trace(mlp(nn.ReLU)),
    "keyword_with_default": lambda: net(lambda m, x, *, scale=2.0: m.a(x).relu() * scale),
    "optional_argument": lambda: net(lambda m, x, mask=None: m.a(x) if mask is None else x),
    "filled": lambda: net(filled),
    "appended": lambda: net(appended),
    "vmap": lambda: net(lambda m, x: torch.vmap(lambda v: m.a(v).relu())(x)),
    "squeezed": lambda: net(lambda m, x: m.a(x).relu().unsqueeze(1).squeeze()),
    "squeezed_too_far": lambda: net(lambda m, x: m.a(x).relu().unsqueeze(1).squeeze().sum(1)),
    "flattened_batch": lambda: net(lambda m, x: m.a(x).relu().flatten()),
    "grouped_samples": lambda: net(
        lambda m, x: m.c(x.reshape(-1, 2)).relu().reshape(x.shape[0], -1), c=nn.Linear(2, 2)
    ),
    "double_and_back": lambda: net(lambda m, x: m.a(x).relu().float().double()),
    "minus_infinity": lambda: net(lambda m, x: F.pad(m.a(x), (1, 1), value=-torch.inf).unfold(1, 3, 1).amax(2)),
    "clipped_infinity": lambda: net(lambda m, x: F.pad(m.a(x), (1, 1), value=torch.inf).clamp(-1, 1)),
    "lowest_number": lambda: net(lambda m, x: m.a(x).masked_fill(KEPT, LOWEST).amax(1)),
    "lowest_number_by_condition": lambda: net(lambda m, x: m.a(x).masked_fill(m.b(x) > 0.2, LOWEST).amax(1)),
    "read_by_a_mask": lambda: net(lambda m, x: m.c(m.a(x)[:, m.k].relu()), k=KEPT, c=nn.Linear(3, 2)),
    "read_where_a_mask_is_set": lambda: net(lambda m, x: m.a(x)[:, m.k.nonzero().squeeze(1)].relu(), k=KEPT),
    "sliced_by_a_buffer": lambda: net(
        lambda m, x: torch.cat([m.a(x)[:, i : i + 2] for i in m.k.tolist()], 1), k=torch.tensor([3, 0])
    ),
    "open_bounds": lambda: net(lambda m, x: m.a(x).clamp(0, torch.inf) - F.hardtanh(x, -torch.inf, 1.0)),
    "large_constants": lambda: net(lambda m, x: (m.a(x) + 1e8).relu() - 1e8),
    "prints": lambda: net(lambda m, x: (print("hello"), m.a(x).relu())[1]),
    "assertion": lambda: net(lambda m, x: _checked(m.a(x))),
    "early_return": lambda: net(lambda m, x: m.a(x).relu() if x.dim() == 2 else x),
    "a_copy_of_a_module": lambda: nn.Sequential(*(lambda f: (f, copy.deepcopy(f)))(nn.Linear(6, 6)), nn.ReLU()),
    "deep": Deep,
}


def _checked(x: Tensor) -> Tensor:
    assert x.shape[1] == 6
    return x.relu()


@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str) -> None:
    torch.manual_seed(0)
    module = EXACT[name]().double().eval()
    network = ma.capture(module, X[:1])
    assert network.verify(module, X).exact
    for own, expected in zip(tree_leaves(network(X)), tree_leaves(module(X.clone())), strict=True):
        assert torch.equal(own, expected)


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_keywords_of_any_name(names: str) -> None:
    """PyTorch cannot trace ``**kwargs``; the wrapper's own hooks and attributes take part, and are let be."""
    module = Wrapper(net(lambda m, a, b: m.a(a).relu() - b)).double()
    module.register_forward_hook(lambda m, args, out: torch.mul(out, 2))  # pyright: ignore[reportArgumentType]
    before, given = dict(vars(module)), dict(zip(names, (X, X + 1), strict=True))
    network = ma.capture(module, given)
    assert torch.equal(network(given), module(**given)) and network.verify(module, given).exact
    assert [record.name for record in network.operators] == ["module.a", "module.relu", "module.sub", "mul"]
    assert vars(module) == before


def test_infinite_bounds_are_no_kinks() -> None:
    module = net(lambda m, x: (x.clamp(0, torch.inf), x.clamp(-torch.inf, torch.inf))).double()
    network = ma.capture(module, X)
    assert network.convex and [(record.pieces, record.continuous) for record in network.operators] == [
        (2, True),
        (1, True),
    ]


def test_entries_in_no_order_are_not_continuous() -> None:
    module = net(lambda m, x: (x.topk(3, 1).values, x.topk(3, 1, sorted=False).values)).double()
    assert [record.continuous for record in ma.capture(module, X).operators] == [True, False]


def test_compiled_modules_are_traced_like_their_own() -> None:
    module = mlp(nn.ReLU).double().eval()
    compiled: Any = torch.compile(module, backend="eager")
    network = ma.capture(compiled, X)
    assert torch.equal(network(X), module(X))
    assert [record.kind for record in network.operators] == ["linear", "relu", "linear", "relu", "linear"]


def test_compiled_parts_are_traced_like_their_own() -> None:
    """A compiled module has a length only where the module in it has one."""
    module: Any = mlp(nn.ReLU).double().eval()
    expected = module(X)
    module[0] = torch.compile(module[0], backend="eager")
    network = ma.capture(module, X)
    assert torch.equal(network(X), expected)
    assert [record.kind for record in network.operators] == ["linear", "relu", "linear", "relu", "linear"]


def test_exported_programs_with_a_dynamic_batch() -> None:
    module = mlp(nn.ReLU).double().eval()
    shapes = ({0: torch.export.Dim("n")},)
    network = ma.capture(torch.export.export(module, (X,), dynamic_shapes=shapes).module(), X)
    assert torch.equal(network(X), module(X))
    fixed = torch.export.export(module, (X,)).module()
    with pytest.raises(ma.CaptureError, match="one batch size only|export an exported program again"):
        ma.capture(fixed, X)


def test_autocast_inside_is_exact_within_its_coarse_dtype() -> None:
    module, x = net(autocast).eval(), X.float()
    network = ma.capture(module, x)
    assert torch.equal(network(x), module(x)) and network.verify(module, x).exact


def test_a_single_sample_keeps_its_axis() -> None:
    """squeeze() would drop it; the network's batch stays a batch."""
    module = net(lambda m, x: m.a(x).relu().unsqueeze(1).squeeze()).double()
    network, one = ma.capture(module, X), X[:1]
    assert network(one).shape == (1, 6) and module(one).shape == (6,)
    amap = network.affine_map(one)
    assert torch.allclose(amap(one), module(one)[None])
    with pytest.raises(ma.BadInput, match="give squeeze.. a dim"):
        network.verify(module, one)


def test_many_steps_of_a_recurrent_network() -> None:
    module = nn.RNN(2, 3, nonlinearity="relu", batch_first=True).double()
    x = torch.randn(2, 40, 2, dtype=torch.float64)
    network = ma.capture(module, x)
    assert len(network.codes(x)) == 40 and network.verify(module, x).exact


def test_hooks_take_part() -> None:
    """A hook that changes an output is part of what the module computes."""
    module = mlp(nn.ReLU).double().eval()
    module[0].register_forward_hook(lambda m, args, out: torch.mul(out, 2))  # pyright: ignore[reportArgumentType]
    module[2].register_forward_pre_hook(lambda m, args: (args[0].clamp(max=1),))
    assert ma.capture(module, X).verify(module, X).exact
