"""Composite operators are taken apart in one trace, or as PyTorch does it: the module's values come out either way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

import maxaffine as ma
from maxaffine._capture.apart import apart

# PyTorch warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Written(nn.Module):
    """A linear layer before a function that writes in place."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(6, 4, dtype=torch.float64), function

    def forward(self, x: Tensor) -> Tensor:
        """The function of the layer's result."""
        return self.function(self.linear(x))


def _twice(h: Tensor) -> Tensor:
    y = h.relu_()
    return y.add_(h, alpha=2).sub_(1) + h


def _kept_before(h: Tensor) -> Tensor:
    before = h + 0
    h.relu_()
    return before - 2 * h


def _view_before(h: Tensor) -> Tensor:
    first = h[:, :2]
    h.relu_()
    return first + h[:, 2:]


def _through_a_view(h: Tensor) -> Tensor:
    h.view(-1, 2, 2).relu_()
    return h * 2


def _through_a_part(h: Tensor) -> Tensor:
    h[:, 0].add_(3)
    return h


def _maybe_a_view(h: Tensor) -> Tensor:
    h.contiguous().relu_()
    return h


def _half(h: Tensor) -> Tensor:
    return (h > 0).to(torch.float16).add_(h)


def _filled(h: Tensor) -> Tensor:
    rows = torch.zeros(h.shape, dtype=h.dtype)
    rows[:, 1:3] = h[:, :2]
    return rows


def _compared(h: Tensor) -> Tensor:
    above = (h - 1).gt_(0)  # zeros and ones: their sum is no "or"
    return h * (above + above)


def _counted(h: Tensor) -> Tensor:
    return h + (h > 0).int().cumsum_(1) // 2


def _negated(h: Tensor) -> Tensor:
    return 1 - (h + 0).logical_not_()


def _constant(h: Tensor) -> Tensor:
    return h * torch.tensor([1.0, -2.0, 0.5, 3.0]).mul_(2)


ONE_TRACE = {
    "relu_": lambda h: h.relu_() * 2,
    "inplace=True": lambda h: F.leaky_relu(h, 0.1, inplace=True) - 1,
    "twice": _twice,
    "kept before": _kept_before,
    "maybe a view": _maybe_a_view,
    "relu6": lambda h: F.relu6(h, inplace=True),
    "clamp_": lambda h: h.clamp_(-0.5, 0.5),
    "masked_fill_": lambda h: (h + 1).masked_fill_(h > 0, 2.0),
    "constant": lambda h: h * torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=h.dtype),
    "nothing": lambda h: F.max_pool1d(h.relu().unsqueeze(1), 2).flatten(1),
}
PYTORCH = {
    "view before": _view_before,
    "through a view": _through_a_view,
    "through a part": _through_a_part,
    "composite then": lambda h: h.clamp_min_(0.5),
    "another type": _half,
    "compared": _compared,
    "counted": _counted,
    "negated": _negated,
    "constant": _constant,
    "filled": _filled,
    "a composite of one": lambda h: F.margin_ranking_loss(h, h * 0, h.sign(), margin=0.5, reduction="none"),
    "vmap": torch.vmap(lambda row: row.clone().relu_()),
}


def _expected(function: Callable[[Tensor], Tensor]) -> tuple[Written, Tensor, Tensor]:
    module, x = Written(function).eval(), torch.randn(5, 6, dtype=torch.float64)
    return module, x, module(x).detach()


def _exported(module: nn.Module, *inputs: Tensor) -> tuple[ExportedProgram, int]:
    """The module's graph of simple operators, and how often it was exported for that; once, or twice."""
    exports = []

    def export() -> ExportedProgram:
        exports.append(module)
        return torch.export.export(module, inputs, strict=False)

    return apart(module, export, smooth=False), len(exports)


def _apart(module: nn.Module, x: Tensor) -> tuple[bool, Tensor]:
    """Whether one trace was enough, and what the graph gives."""
    program, exports = _exported(module, x)
    graph, signature = program.graph_module, program.graph_signature
    tensors = {**program.state_dict, **program.constants}
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    sources |= signature.inputs_to_lifted_tensor_constants
    given = [tensors[sources[p.name]] if p.name in sources else x for p in graph.graph.find_nodes(op="placeholder")]
    return exports == 1, graph(*given)[0]


@pytest.mark.parametrize("name", ONE_TRACE)
def test_one_trace_is_enough_where_nobody_sees_what_is_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x, expected = _expected(ONE_TRACE[name])
    monkeypatch.delattr(ExportedProgram, "run_decompositions")
    alone, values = _apart(module, x)
    assert alone
    torch.testing.assert_close(values, expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", PYTORCH)
def test_what_others_see_is_written_as_pytorch_does(name: str) -> None:
    module, x, expected = _expected(PYTORCH[name])
    alone, values = _apart(module, x)
    torch.testing.assert_close(values, expected, atol=0, rtol=0)
    assert not alone


class Named(nn.Module):
    """Inputs with the names that PyTorch gives to operators."""

    def forward(self, x: Tensor, mean: Tensor, add: Tensor) -> Tensor:
        """A sum of them."""
        return (x - x.mean(1, keepdim=True) + mean + add).relu()


def test_inputs_may_be_named_like_operators() -> None:
    inputs = {name: torch.randn(4, 3, dtype=torch.float64) for name in ("x", "mean", "add")}
    module = Named()
    assert ma.capture(module, inputs).verify(module, inputs).exact
    program, exports = _exported(module, *inputs.values())
    assert exports == 1
    assert [node.name for node in program.graph.find_nodes(op="placeholder")] == list(inputs)


class Added(nn.Module):
    """A product added in place, which autocast leaves alone, as it does not the plain form."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """X W + x."""
        return (x * 1.0).addmm_(x, self.get_buffer("weight"))


def test_under_autocast_what_is_written_keeps_its_type() -> None:
    module, x = Added(), torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        program, exports = _exported(module, x)
        expected = module(x)
    assert exports == 2
    assert program.graph_module(module.get_buffer("weight"), x)[0].dtype == expected.dtype == torch.float32


def test_statistics_of_the_batch_are_not_forgotten() -> None:
    module = nn.BatchNorm1d(6)
    program, _ = _exported(module.train(), torch.randn(5, 6))
    assert [spec.kind.name for spec in program.graph_signature.output_specs].count("BUFFER_MUTATION") == 3
    assert _exported(module.eval(), torch.randn(5, 6))[1] == 1
