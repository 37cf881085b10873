"""The exactness check catches what is broken on purpose, and does not cry wolf."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import checkpoint

import maxaffine as ma
from maxaffine._graph import LocalMap, Step
from tests.network.broken import Broken, Spoiled, with_step
from tests.zoo.networks import Net, mlp, randomize


@cache
def captured() -> tuple[nn.Sequential, ma.SplineNetwork]:
    torch.manual_seed(0)
    module = mlp(nn.ReLU).double().eval()
    randomize(module)
    return module, ma.capture(module, X[:1])


X = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def spoiled(name: str, **factors: float) -> ma.SplineNetwork:
    def change(step: Step) -> Step:
        return replace(step, operator=Broken(step.operator, lambda local: Spoiled(local, **factors)))

    return with_step(captured()[1], name, change)


def test_the_network_itself_is_exact() -> None:
    module, net = captured()
    report = net.verify(module, X)
    assert report.exact and (report.samples, report.dtype) == (4, torch.float64)
    assert max(report.residuals.values()) < 1e-14 < report.bound < 1e-12
    assert str(report).startswith("exact on 4 inputs in torch.float64: output ")


@pytest.mark.parametrize("name", ["0", "1", "2", "3", "4"])
@pytest.mark.parametrize(
    ("factors", "caught"),
    [
        ({"mv": 1.001, "rmv": 1.001}, {"affine", "jacobian"}),
        ({"mv": 1.001}, {"affine"}),
        ({"rmv": 1.001}, {"jacobian"}),
        ({"rmv": 1 + 1e-9}, {"jacobian"}),
    ],
    ids=["slopes", "forward", "backward", "slightly"],
)
def test_wrong_slopes(name: str, factors: dict[str, float], caught: set[str]) -> None:
    net = spoiled(name, **factors)
    report = net.verify(captured()[0], X, raises=False)
    assert caught <= {key for key, value in report.residuals.items() if value > report.bound}
    assert str(report).startswith("NOT exact")
    with pytest.raises(ma.ExactnessError, match="NOT exact.*capture it again"):
        net.verify(captured()[0], X)


@pytest.mark.parametrize("name", ["0", "2", "4"])
@pytest.mark.parametrize("factor", [0.0, 1.001])
def test_a_lost_or_wrong_offset(name: str, factor: float) -> None:
    with pytest.raises(ma.ExactnessError):
        spoiled(name, offset=factor).verify(captured()[0], X)


def test_a_wrong_code() -> None:
    """One unit of one sample on the wrong side: the value is right, the map is not."""

    @dataclass(frozen=True, eq=False)
    class Flipped(Broken):
        def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
            moved = inputs[0].clone()
            place = int(moved[2].abs().argmax())
            moved[2, place] = -moved[2, place]
            return self.whole.local([moved], value)

    module, net = captured()
    broken = with_step(net, "3", lambda step: replace(step, operator=Flipped(step.operator, lambda local: local)))
    report = broken.verify(module, X, raises=False)
    assert report.output == 0 and report.affine > report.bound and report.jacobian > report.bound


def test_a_wrong_value() -> None:
    class Louder(Broken):
        def __call__(self, *inputs: Any) -> Any:
            return self.whole(*inputs) * 1.001

    module, net = captured()
    broken = with_step(net, "2", lambda step: replace(step, operator=Louder(step.operator, lambda local: local)))
    report = broken.verify(module, X, raises=False)
    assert report.output > report.bound


def test_not_a_number_is_caught_in_any_output() -> None:
    module = Net(lambda m, x: (m.a(x), m.b(x)), a=nn.Linear(6, 2), b=nn.Linear(6, 2)).double()
    net = ma.capture(module, X[:1])
    for name in ("a", "b"):
        for part in ("mv", "rmv", "offset"):

            def change(step: Step, part: str = part) -> Step:
                return replace(step, operator=Broken(step.operator, lambda local: Spoiled(local, **{part: torch.nan})))

            assert not with_step(net, name, change).verify(module, X, raises=False).exact


class TestTheModuleChanged:
    def test_trained_since(self) -> None:
        module = mlp(nn.ReLU).double()
        net = ma.capture(module, X[:1])
        optimizer = torch.optim.SGD(module.parameters(), 1e-6)
        module(X).square().mean().backward()
        optimizer.step()
        with pytest.raises(ma.ExactnessError, match="Was the model trained, moved or put into another mode"):
            net.verify(module, X)

    def test_another_mode_and_its_traces(self) -> None:
        """In training mode the module draws random numbers and updates statistics: not while it is being checked."""
        module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)).double().eval()
        net = ma.capture(module, X[:1])
        module.train()
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        state = torch.get_rng_state()
        with pytest.raises(ma.ExactnessError):
            net.verify(module, X)
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state) and module.training

    @pytest.mark.parametrize(
        "change", [lambda m: m.float(), lambda m: m.to("meta"), lambda m: m[:2].append(nn.Linear(9, 1))]
    )
    def test_it_fails(self, change: Any) -> None:
        module = mlp(nn.ReLU).double()
        net = ma.capture(module, X[:1])
        with pytest.raises(ma.BadInput, match=r"model: it failed on x \(RuntimeError: .*Cure: check that"):
            net.verify(change(module), X)

    def test_it_returns_something_else(self) -> None:
        _, net = captured()
        with pytest.raises(ma.BadInput, match="model: it returns 2 tensors, the network 1"):
            net.verify(Net(lambda m, x: (x, x)), X)
        with pytest.raises(ma.BadInput, match=r"model: output 0 has shape \(4, 6\), the network's \(4, 3\)"):
            net.verify(nn.Identity(), X)

    def test_nothing_depends_on_the_input(self) -> None:
        module = Net(lambda m, x: m.c, c=torch.ones(2)).double()
        with pytest.raises(ma.BadInput, match="no output depends on the input"):
            ma.capture(module, X).verify(module, X)


def test_nothing_of_the_users_is_touched() -> None:
    module = mlp(nn.ReLU).double()
    module(X).sum().backward()
    net = ma.capture(module, X[:1])
    grads = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
    x, state = X.clone().requires_grad_(), torch.get_rng_state()
    with torch.no_grad():
        net.verify(module, x)
        assert not torch.is_grad_enabled()
    assert torch.equal(x.detach(), X) and x.grad is None and torch.equal(torch.get_rng_state(), state)
    left = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(left, grads, strict=True)) and len(left) == 6


@pytest.mark.parametrize("far", [1e-6, 1.0, 1e9])
def test_a_sample_far_out_does_not_hide_the_others(far: float) -> None:
    """In single precision a billionth of one sample is below any rounding, and all of another."""
    module = mlp(nn.ReLU)
    randomize(module)
    x = X.float()
    x[0] *= far
    net = ma.capture(module, x)
    assert net.verify(module, x).exact

    def change(step: Step) -> Step:
        return replace(step, operator=Broken(step.operator, lambda local: Spoiled(local, offset=1.01)))

    assert with_step(net, "0", change).verify(module, x, raises=False).affine > 1e-4


def test_terms_that_cancel_are_no_fault() -> None:
    """A hat: beyond its foot all slopes and offsets cancel, but for their rounding."""
    module = Net(lambda m, x: 0.3 * x.relu() - 0.6 * (x - 1.1).relu() + 0.3 * (x - 2.2).relu()).double()
    x = torch.linspace(-1, 5, 40, dtype=torch.float64)[:, None]
    assert ma.capture(module, x).verify(module, x).exact


def test_the_bound_is_an_argument() -> None:
    module, net = captured()
    broken = spoiled("2", rmv=1 + 1e-6)
    assert broken.verify(module, X, rtol=1e-5).exact
    assert not broken.verify(module, X, rtol=1e-7, raises=False).exact
    one, two = (net.verify(module, X, seed=seed) for seed in (0, 1))
    assert one.bound == two.bound and net.verify(module, X, seed=0) == one


def test_points_on_kinks() -> None:
    """Autograd may take another piece on a kink than the lowest: no fault, for beside it both agree."""
    module = Net(lambda m, x: x.abs() + F.relu6(x) + torch.maximum(x, -x) + x.unflatten(1, (3, 2)).amax(2).repeat(1, 2))
    net = ma.capture(module.double(), X[:1])
    assert net.verify(module, torch.zeros_like(X)).exact


class MadeUp(torch.autograd.Function):
    """Rounds to a half below 0.5, and claims the slope one: a straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.where(x > 0.5, x, 0.5)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


CUT = {
    "detached": lambda m, x: m.b(m.a(x).relu().detach()) + x,
    "without_grad": lambda m, x: m.b(_without_grad(m.a, x)) + x,
    "reentrant": lambda m, x: checkpoint.checkpoint(lambda y: m.b(m.a(y).relu()), x, use_reentrant=True),
    "straight_through": lambda m, x: m.b(MadeUp.apply(m.a(x))),
}


@torch.no_grad()
def _without_grad(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x).relu()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_where_autograd_is_not_the_derivative(name: str, dtype: torch.dtype) -> None:
    """The function decides, not its autograd: its own slopes are exact, and wrong ones are still caught."""
    torch.manual_seed(0)
    module = Net(CUT[name], a=nn.Linear(6, 6), b=nn.Linear(6, 6)).to(dtype)
    x = X.to(dtype)
    net = ma.capture(module, x)
    assert net.verify(module, x).exact
    first = next(record.name for record in net.operators if record.kind == "linear")
    for factor in (1.02, 0.0):

        def change(step: Step, factor: float = factor) -> Step:
            return replace(step, operator=Broken(step.operator, lambda local: Spoiled(local, rmv=factor)))

        report = with_step(net, first, change).verify(module, x, raises=False)
        assert report.jacobian > report.bound


def test_a_coarse_dtype_on_the_way_sets_the_bound() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = m.a(x)
        return y.float().relu()

    module = Net(forward, a=nn.Linear(6, 8)).eval()
    x = X.float()
    report = ma.capture(module, x).verify(module, x)
    assert report.exact and torch.finfo(torch.bfloat16).eps < report.bound <= 1 / 16


def test_integer_and_boolean_outputs_are_left_out() -> None:
    module = Net(lambda m, x: (m.f(x), x > 0, m.f(x).argmax(1)), f=mlp(nn.ReLU)).double()
    assert ma.capture(module, X[:1]).verify(module, X).exact
