"""Every family of rules keeps the contract, and the contract catches rules that are wrong."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._capture import Call, all_rules, batch, check_rule
from maxaffine._graph import Boundaries, Contest, Duels, Elementwise, Knots, Operator, Order, Pair, ScalarSpline, Traits
from tests.contracts import CONTRACTS, Contract
from tests.zoo.networks import Net

# By name: ``maxaffine.capture`` is also the function that the package offers.
freeze = importlib.import_module("maxaffine._capture.freeze")
registry = importlib.import_module("maxaffine._capture.registry")

# Reductions over all samples, and what is left of scattered ones, have rules too, which refuse.
REFUSED = {"arithmetic.total", "indexing.reduce"}
# PyTorch 2.13 brings it.
NEW = {"_upsample_lanczos2d_aa"}


def family(target: Callable) -> str:
    build = all_rules()[target].build
    return f"{build.__module__.rpartition('.')[2]}.{build.__name__}"


OWN = {target: family(target) for target, rule in all_rules().items() if rule.build.__module__.startswith("maxaffine.")}


@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_every_operator_of_the_family_keeps_the_contract(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[Callable] = set()

    def find(target: Callable) -> Any:
        called.add(target)
        return registry.find(target)

    monkeypatch.setattr(freeze, "find", find)
    check_rule(contract.module(), contract.example())
    operators = {target for target, name in OWN.items() if name == contract.family and not _new(target)}
    assert operators and operators <= called, f"the module does not call {operators - called}"


def _new(target: Any) -> bool:
    return target._schema.name.split("::")[1] in NEW


def test_every_family_has_a_contract() -> None:
    assert {contract.family for contract in CONTRACTS} == set(OWN.values()) - REFUSED


@torch.library.custom_op("contracts::clip", mutates_args=())
def clip(x: Tensor) -> Tensor:
    return x.clamp(-1, 1)


@torch.library.custom_op("contracts::center", mutates_args=())
def center(x: Tensor) -> Tensor:
    return x - x.mean(0)


@torch.library.custom_op("contracts::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return 2 * x


for operator in (clip, center, twice):
    operator.register_fake(torch.empty_like)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


clip.register_autograd(lambda ctx, g: g * (ctx.saved_tensors[0].abs() <= 1), setup_context=_save)
center.register_autograd(lambda ctx, g: g - g.mean(0))
twice.register_autograd(lambda ctx, g: 0.5 * g)  # wrong

CLIP = ScalarSpline((-1.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Recoded(Elementwise):
    """A right map whose codes are passed through a function."""

    recode: Callable[[Tensor], Tensor] = torch.clone

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        return self.recode(super().codes(inputs, value))


@dataclass(frozen=True, eq=False)
class Shifted(Elementwise):
    """A right map whose value is not the module's."""

    def __call__(self, *inputs: Any) -> Tensor:
        return self.traced(*inputs) + 0.1


@dataclass(frozen=True, eq=False)
class Bounded(Elementwise):
    """A right map, with right codes, that says something else of its boundaries."""

    said: Boundaries | None = None

    def boundaries(self) -> Boundaries | None:  # type: ignore[override]
        return self.said


@dataclass(frozen=True, eq=False)
class Unoffset(Elementwise):
    """A right map that denies its offsets."""

    @property
    def traits(self) -> Traits:
        return replace(super().traits, homogeneous=True)


def _squares(inputs: Sequence[Any]) -> list[Pair]:
    """Zero where the entry is 1 or -1."""
    return [Pair(inputs[0] * inputs[0], 1.0)]


def _pairs(x: Tensor) -> Tensor:
    """Each entry beside the next, which have nothing to do with it."""
    return torch.stack([x, x.roll(1, 1)], -1)


def _sliced(slopes: Sequence[float], offsets: Sequence[float]) -> Callable[[Call], Operator]:
    return lambda call: Elementwise(call.affine(), ScalarSpline(CLIP.knots, tuple(slopes), tuple(offsets)))


@pytest.fixture
def with_rule(monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """A module that calls an operator of the test's library, under a rule for this test alone."""

    def install(operator: Any, build: Callable[[Call], Operator], proof: Any = batch.pointwise) -> nn.Module:
        monkeypatch.setitem(registry._RULES, operator._opoverload, registry.Rule(build, proof))
        return Net(lambda m, x: operator(m.a(x)), a=nn.Linear(4, 4))

    return install


def test_a_right_rule_passes(with_rule: Callable[..., nn.Module]) -> None:
    check_rule(with_rule(clip, lambda call: Elementwise(call.affine(), CLIP)), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("build", "law"),
    [
        (_sliced((0.0, 0.9, 0.0), (-1.0, 0.0, 1.0)), "A x \\+ b is not"),
        (_sliced((0.0, 1.0, 0.0), (-1.0, 0.0, 1.1)), "A x \\+ b is not"),
        (_sliced((0.1, 1.0, 0.1), (-1.0, 0.0, 1.0)), "A x \\+ b is not"),
        (lambda call: Shifted(call.affine(), CLIP), "own value is not"),
        (lambda call: Recoded(call.affine(), CLIP, lambda codes: codes + 1), "leave 0..pieces-1"),
        (lambda call: Recoded(call.affine(), CLIP, lambda codes: codes.clamp(max=1)), "equal codes but different maps"),
        (lambda call: call.affine(), "is not"),
        (lambda call: Unoffset(call.affine(), CLIP), "traits say homogeneous"),
        (lambda call: Bounded(call.affine(), CLIP), "does not say where they change"),
        (lambda call: Bounded(call.affine(), CLIP, Knots((-1.0, 1.1))), "not what its boundaries give"),
        (lambda call: Bounded(call.affine(), CLIP, Knots((1.0,))), "not what its boundaries give"),
        (lambda call: Bounded(call.affine(), CLIP, Duels(lambda given: [], counted=False)), "where no boundary lies"),
        (lambda call: Bounded(call.affine(), CLIP, Duels(_squares, counted=False)), "not affine in its inputs"),
        (lambda call: Bounded(call.affine(), CLIP, Contest(_pairs, order=Order.RANK)), "where no boundary lies"),
    ],
    ids=[
        *("slope", "offset", "outer slope", "value", "codes off by one", "codes merged", "affine", "homogeneous"),
        *("no boundaries", "a knot beside", "a knot too few", "never", "curved", "another order"),
    ],
)
def test_a_wrong_rule_is_caught(with_rule: Callable[..., nn.Module], build: Callable, law: str) -> None:
    module = with_rule(clip, build)
    with pytest.raises(ma.ExactnessError, match=law):
        check_rule(module, torch.zeros(2, 4))


def test_a_rule_that_hides_mixed_samples_is_caught(with_rule: Callable[..., nn.Module]) -> None:
    module = with_rule(center, lambda call: call.affine(homogeneous=True))
    with pytest.raises(ma.ExactnessError, match="one sample changes another's output"):
        check_rule(module, torch.zeros(2, 4))


def test_the_default_proof_refuses_mixed_samples(with_rule: Callable[..., nn.Module]) -> None:
    module = with_rule(center, lambda call: call.affine(homogeneous=True), proof=ma.operators.batch.probed)
    with pytest.raises(ma.NotPiecewiseAffine, match="mixes the samples"):
        check_rule(module, torch.zeros(2, 4))


def test_a_wrong_derivative_is_caught_where_the_map_is_made_of_it(with_rule: Callable[..., nn.Module]) -> None:
    by_derivative = with_rule(twice, lambda call: call.affine(homogeneous=True))
    with pytest.raises(ma.ExactnessError, match="Jacobian of the module"):
        check_rule(by_derivative, torch.zeros(2, 4))
    doubled = ScalarSpline((0.0,), (2.0, 2.0), (0.0, 0.0))
    check_rule(with_rule(twice, lambda call: Elementwise(call.affine(), doubled)), torch.zeros(2, 4))


def test_several_inputs_and_integers() -> None:
    table = nn.Embedding(5, 4)
    module = Net(lambda m, x, i: torch.relu(x + m.table(i)), table=table)
    check_rule(module, (torch.zeros(2, 4), torch.tensor([0, 3])))


def test_the_module_and_the_random_state_are_left_alone() -> None:
    module = nn.Linear(4, 4)
    before, state = module.weight.clone(), torch.get_rng_state()
    check_rule(module, torch.zeros(2, 4))
    assert module.weight.dtype == torch.float32
    assert torch.equal(before, module.weight) and torch.equal(state, torch.get_rng_state())
