"""Slopes of smooth networks against the untouched module with its gates detached: what that check sees, and says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine import SplineNetwork
from maxaffine._graph import LocalMap, Step, Tangent
from maxaffine._network import detached
from tests.network.broken import Broken, Spoiled, with_step
from tests.zoo.networks import Net

torch.manual_seed(0)
TOKENS = torch.randn(3, 5, 16, dtype=torch.float64)


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.Sequential(layer, nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 2)).double().eval()


def gated() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.c(F.silu(m.a(x)) * m.b(x))

    return Net(forward, **{name: nn.Linear(16, 16) for name in "abc"}).double()


def caught(net: SplineNetwork, model: nn.Module) -> set[str]:
    report = net.verify(model, TOKENS, raises=False)
    return {name for name, value in report.residuals.items() if value > report.bound}


@pytest.mark.parametrize("name", ["0.norm1", "0.gelu", "0.norm2", "2"])
def test_a_gate_that_is_not_held(name: str) -> None:
    """Its tangent gives the same values, and other slopes."""
    model = transformer()
    net = ma.capture(model, TOKENS, smooth="frozen")
    assert not caught(net, model)

    def plant(step: Step) -> Step:
        operator: Any = step.operator
        return replace(step, operator=Tangent(operator.traced))

    planted = with_step(net, name, plant)
    assert caught(planted, model) == {"slopes"}
    with pytest.raises(ma.ExactnessError, match="slopes"):
        planted.verify(model, TOKENS)


def test_a_wrong_carrier() -> None:
    """The map of another choice than the one that is recorded: exact at x, adjoint and all."""
    model = gated()
    said = ma.capture(model, TOKENS, smooth="frozen")
    other = ma.capture(model, TOKENS, smooth="frozen", carrier={"mul": "silu"})
    assert not caught(said, model) and not caught(other, model)
    records = {step.records[0].name: step.records for step in said.graph.steps if step.records}
    steps = tuple(
        replace(step, records=records[step.records[0].name]) if step.records else step for step in other.graph.steps
    )
    planted = SplineNetwork(replace(other.graph, steps=steps), other.inputs, other.output_spec, other.places)
    assert planted.held == said.held and caught(planted, model) == {"slopes"}


@pytest.mark.parametrize("name", ["0.self_attn.linear#2", "0.linear2", "0.norm2", "1", "3"])
def test_a_dropped_bias(name: str) -> None:
    model = transformer()
    for bias in (part for path, part in model.named_parameters() if path.endswith("bias")):
        nn.init.normal_(bias)
    net = ma.capture(model, TOKENS, smooth="frozen")
    name = name if name in net.places else next(key for key in net.places if key.startswith("0.self_attn"))

    def drop(step: Step) -> Step:
        return replace(step, operator=Broken(step.operator, lambda local: Spoiled(local, offset=0)))

    assert {"affine"} <= caught(with_step(net, name, drop), model)


def test_slopes_of_one_gate_off_by_little() -> None:
    class Leaning(LocalMap):
        def __init__(self, local: Any, point: Tensor, value: Tensor) -> None:
            self.local, self.point, self.value = local, point, value

        def mv(self, tangents: Sequence[Tensor]) -> Any:
            return (self.local.mv([tangents[0] * (1 + 1e-9)])[0],)

        def rmv(self, cotangents: Sequence[Any]) -> Any:
            return (self.local.rmv(cotangents)[0] * (1 + 1e-9),)

        def offsets(self) -> Any:
            return (self.value - self.mv([self.point])[0],)

    class Off(Broken):
        def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
            return Leaning(self.whole.local(inputs, value), inputs[0], value)

    model = transformer()
    net = ma.capture(model, TOKENS, smooth="frozen")
    assert caught(with_step(net, "2", lambda s: replace(s, operator=Off(s.operator, lambda m: m))), model) == {"slopes"}


def test_what_has_no_gate_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the carrier's way only: what merely gates may be anything."""
    model = Net(
        lambda m, x: F.elu(m.a(x)) * torch.sigmoid(torch.sin(m.b(x)).cos().floor()),
        a=nn.Linear(16, 3),
        b=nn.Linear(16, 3),
    )
    model = model.double()
    net = ma.capture(model, TOKENS, smooth="frozen")
    assert net.verify(model, TOKENS).unchecked == ()
    monkeypatch.delitem(detached.RULES, "elu")
    report = net.verify(model, TOKENS)
    assert report.unchecked == ("elu",) and "slopes" not in report.residuals
    assert str(report).endswith("; slopes not checked, for want of a gate of elu")


def test_a_table_that_misses_the_modules_value_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformer()
    net = ma.capture(model, TOKENS, smooth="frozen")
    norm = detached.RULES["native_layer_norm"]
    monkeypatch.setitem(detached.RULES, "native_layer_norm", lambda *args: norm(*args) * 1.001)
    assert net.verify(model, TOKENS).unchecked == ("native_layer_norm",)


def test_a_module_that_does_not_run_twice_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformer()
    net = ma.capture(model, TOKENS, smooth="frozen")

    def fail(*_: Any) -> Any:
        raise RuntimeError("no tape\nhere")

    monkeypatch.setattr(detached.Replay, "run", fail)
    assert net.verify(model, TOKENS).unchecked == ("the module as a whole (RuntimeError: no tape)",)


IN_PLACE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "unit": lambda m, x: F.silu(m.a(x), inplace=True),
    "product": lambda m, x: m.a(x).mul_(torch.sigmoid(m.b(x))),
    "gate": lambda m, x: m.a(x) * m.b(x).sigmoid_().mul_(2),
    "written": lambda m, x: _written(m.a(x), F.gelu(m.b(x))),
    "part": lambda m, x: _part(m.a(x), F.gelu(m.b(x))),
    "norm": lambda m, x: m.a(x).div_(1 + m.b(x).square()),
    "curve": lambda m, x: m.a(x).square().add_(1).log_().mul(torch.tanh(m.b(x)).sigmoid()),
    "cut": lambda m, x: F.gelu(m.a(x).detach()) * m.b(x).detach().sigmoid(),
}


def _written(u: Tensor, v: Tensor) -> Tensor:
    both = torch.zeros(*u.shape, 2, dtype=u.dtype)
    both[..., 0] = u
    both[..., 1] += v
    return both.flatten(-2)


def _part(u: Tensor, v: Tensor) -> Tensor:
    u = u.clone()
    u[..., :4].add_(v[..., :4]).tanh_()
    return u


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_written_in_place_and_cut_from_autograd(name: str) -> None:
    model = Net(IN_PLACE[name], a=nn.Linear(16, 6), b=nn.Linear(16, 6)).double()
    before = {key: item.clone() for key, item in model.state_dict().items()}
    report = ma.capture(model, TOKENS, smooth="frozen").verify(model, TOKENS)
    assert report.exact and not report.unchecked and report.residuals["slopes"] < 1e-14
    for key, item in model.state_dict().items():
        assert_close(item, before[key], rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


WHOLE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "instance_norm": lambda m, x: F.instance_norm(m.a(x)),
    "group_norm": lambda m, x: F.group_norm(m.a(x), 5),
    "rms_norm": lambda m, x: F.rms_norm(m.a(x), (6,)),
    "attention": lambda m, x: F.scaled_dot_product_attention(m.a(x), m.b(x), m.b(x).tanh()),
    "causal": lambda m, x: F.scaled_dot_product_attention(m.a(x), m.b(x), m.a(x), is_causal=True),
    "glu": lambda m, x: F.glu(m.a(x)),
    "distances": lambda m, x: torch.exp(-torch.cdist(m.a(x), m.b.weight[:, :6])),
    "deviation": lambda m, x: m.a(x) / (m.b(x).std(-1, keepdim=True) + 1),
    "carried_deviation": lambda m, x: m.b(x).std(-1, keepdim=True) + m.a(x),
    "cosines": lambda m, x: F.cosine_similarity(m.a(x), m.b.weight[:5, :6], dim=-1),
    "multiplied_add": lambda m, x: torch.addcmul(x[..., :6], m.a(x), m.b(x).sigmoid(), value=0.3),
    "blend": lambda m, x: torch.lerp(m.a(x), m.a(x).tanh(), m.b(x).sigmoid()),
    "shares": lambda m, x: m.a(x).masked_fill(torch.arange(6) > 3, -torch.inf).softmax(-1),
    "energies": lambda m, x: m.a(x).logsumexp(-1, keepdim=True) + F.softplus(m.b(x).tanh()) + m.a(x).log_softmax(-1),
    "gram": lambda m, x: (lambda u: u @ u.mT)(m.a(x)),
    "filtered": lambda m, x: torch.fft.irfft(torch.fft.rfft(F.gelu(m.a(x))) * 2, 6),
}


@pytest.mark.parametrize("name", WHOLE)
def test_operators(name: str) -> None:
    model = Net(WHOLE[name], a=nn.Linear(16, 6), b=nn.Linear(16, 6)).double()
    carrier = {"gram": {"bmm": "mat2"}}.get(name)
    net = ma.capture(model, TOKENS, smooth="frozen", carrier=carrier)
    report = net.verify(model, TOKENS)
    assert report.exact and not report.unchecked and report.residuals["slopes"] < 1e-13


def test_a_final_activation_that_was_left_out() -> None:
    model = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 4), nn.Softmax(-1)).double()
    net = ma.capture(model, TOKENS, smooth="frozen", output="pre_activation")
    report = net.verify(model, TOKENS)
    assert report.exact and not report.unchecked and 0 < report.residuals["slopes"] < 1e-14


def test_of_a_piecewise_affine_network_it_is_no_residual() -> None:
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU()).double()
    assert ma.capture(model, TOKENS, smooth="frozen").verify(model, TOKENS).slopes is None
    curves = nn.Sequential(nn.Linear(16, 8), nn.GELU()).double()
    assert ma.capture(curves, TOKENS, smooth="tangent").verify(curves, TOKENS).slopes is None
