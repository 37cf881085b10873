"""Softened networks as modules: weights, training, saving, exporting, and what is refused."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine import curvature
from maxaffine.errors import BadInput, NotPiecewiseAffine, ShapeMismatch


class Residual(nn.Module):
    """A skip connection, functional calls, tied weights and a parameter that is computed from two others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.again = nn.Conv2d(3, 3, 1)
        self.prelu = nn.PReLU(3)
        self.same = self.again
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(12, 4))
        self.head.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.norm(self.conv(x)))
        y = torch.relu(self.same(self.again(y)) + y)
        return nn.functional.relu6(self.head(nn.functional.max_pool2d(y, 2).flatten(1)))


def module(seed: int = 0) -> Residual:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Residual()
        for item in (*made.parameters(), made.norm.running_mean):
            assert item is not None
            item.data.add_(0.3 * torch.randn(item.shape))
        made.norm.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
    return made.eval()


X = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(3))


@cache
def net() -> ma.SplineNetwork:
    return ma.capture(module(), X[:2])


def test_every_piecewise_operator_is_softened_functional_ones_too() -> None:
    soft = curvature.soften(net(), 0.9)
    assert soft.betas == dict.fromkeys(["prelu", "relu", "max_pool2d", "hardtanh"], 0.9)
    assert not torch.allclose(soft(X), module()(X), atol=1e-3)
    assert "max_pool2d" in repr(soft) and "<table>" in soft._repr_html_()


def test_weights_go_both_ways_and_keep_their_flags() -> None:
    soft, other = curvature.soften(net(), 1.0), module(1)
    assert soft.state_dict().keys() == other.state_dict().keys()
    soft.load_state_dict(other.state_dict())
    assert_close(soft(X), other(X))
    fresh = module(2)
    fresh.load_state_dict(soft.state_dict())
    assert_close(fresh(X), other(X))
    flags = {name: item.requires_grad for name, item in other.named_parameters(remove_duplicate=False)}
    assert flags == {name: item.requires_grad for name, item in soft.named_parameters(remove_duplicate=False)}
    assert len(list(soft.parameters())) == len(list(other.parameters()))  # tied ones are one


def test_training_reaches_every_parameter_and_leaves_network_and_module_alone() -> None:
    user, random_state = module(), torch.get_rng_state()
    before, soft = copy.deepcopy(user.state_dict()), curvature.soften(user, 0.8, trainable=True, example=X)
    truth, captured = user(X), net()(X)
    solver = torch.optim.Adam(soft.parameters(), 0.05)
    losses = []
    for _ in range(8):
        solver.zero_grad()
        loss = (soft(X) - 1).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        assert all(
            item.grad is not None and bool(item.grad.isfinite().all())
            for item in soft.parameters()
            if item.requires_grad
        )
        solver.step()
    assert losses[-1] < losses[0] and all(0 < float(beta) < 1 for beta in soft.betas.values())
    assert all(torch.equal(item, before[name]) for name, item in user.state_dict().items())
    assert torch.equal(user(X), truth) and torch.equal(net()(X), captured)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize(("trainable", "count"), [(True, 2), ("operator", 8), ("channel", 2 * (3 + 3 + 3 + 4))])
def test_what_is_trained(trainable: bool | str, count: int) -> None:
    soft = curvature.soften(net(), 0.8, trainable=trainable)
    assert sum(item.numel() for item in soft.soft_codes.parameters()) == count
    assert_close(soft(X), curvature.soften(net(), 0.8)(X))
    soft(X).square().sum().backward()
    assert all(item.grad is not None and bool(item.grad.any()) for item in soft.soft_codes.parameters())


def test_beta_per_operator_and_per_channel() -> None:
    betas = torch.tensor([0.5, 0.9, 1.0])
    soft = curvature.soften(net(), {"prelu": betas, "hardtanh": 0.7})
    assert list(soft.betas) == ["prelu", "hardtanh"] and soft.betas["hardtanh"] == 0.7
    one = [curvature.soften(net().part(until="prelu"), float(beta))(X)[:, place] for place, beta in enumerate(betas)]
    assert_close(curvature.soften(net().part(until="prelu"), betas)(X), torch.stack(one, 1))
    only = curvature.soften(net(), 0.7, operators=["hardtanh"])
    hard = curvature.soften(net(), {"hardtanh": 0.7})
    assert torch.equal(only(X), hard(X)) and not torch.equal(only(X), soft(X))


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "file": lambda soft: _through_a_file(soft),
    "export": lambda soft: torch.export.export(
        soft, (X,), dynamic_shapes={"args": ({0: torch.export.Dim("batch")},)}
    ).module(),
}


def _through_a_file(soft: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(soft, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("way", COPIES)
def test_copied_saved_and_exported_it_is_the_same(way: str) -> None:
    soft = curvature.soften(net(), 0.8, trainable="channel")
    other = COPIES[way](soft)
    for count in (1, 3, 5):
        assert_close(other(X[:count]), soft(X[:count]))
    assert {*dict(other.named_parameters())} >= {*dict(soft.named_parameters())}
    if way != "export":  # a copy stands on its own
        next(iter(soft.soft_codes.parameters())).data.add_(1.0)
        assert not torch.allclose(other(X), soft(X))


def test_other_types_and_autocast() -> None:
    soft = curvature.soften(net(), 0.8, trainable=True)
    truth = soft(X)
    double = copy.deepcopy(soft).double()
    assert_close(double(X.double()), truth.double(), rtol=1e-4, atol=1e-5)
    assert copy.deepcopy(soft).bfloat16()(X.bfloat16()).dtype == torch.bfloat16
    for beta, given in ((0.8, soft), (1.0, curvature.soften(net(), 1.0))):
        with torch.autocast("cpu", torch.bfloat16):
            found = given(X)
        assert_close(found.float(), truth if beta < 1 else net()(X), rtol=0.05, atol=0.1)
        found.float().sum().backward()


def test_smooth_networks_parts_names_and_other_batches() -> None:
    gated = nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    frozen = ma.capture(gated, torch.zeros(2, 3), smooth="frozen")
    soft, x = curvature.soften(frozen, 0.5, "expected"), torch.randn(7, 3)
    assert list(soft.betas) == ["3"]
    gated[3] = nn.SiLU()
    assert_close(soft(x), gated(x))

    class Named(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
            return {"both": (torch.relu(first), torch.maximum(first, second))}

    example = {"second": torch.zeros(2, 3), "first": torch.zeros(2, 3)}
    named = _through_a_file(curvature.soften(Named(), 0.5, "expected", example=example))
    pair = named(first=x, second=x.flip(1))["both"]
    assert_close(pair[0], nn.functional.silu(x))
    assert_close(pair[1], x + nn.functional.silu(x.flip(1) - x))
    with pytest.raises(BadInput, match="names"):
        named(x, x)


def test_it_can_be_captured_again_with_its_gates_held() -> None:
    soft, x = curvature.soften(net(), 0.8, "energy", operators=["prelu", "relu", "hardtanh"]), X
    again = ma.capture(soft, X[:2], smooth="frozen")
    assert again.verify(soft, x).exact and not again.piecewise_affine


def test_made_in_inference_mode_from_a_part_on_disk_it_is_trained() -> None:
    with torch.inference_mode():
        part = _through_a_file(net().part(until="relu"))
        soft = curvature.soften(part, 0.8, trainable=True)
    soft(X).square().sum().backward()
    assert all(item.grad is not None for item in soft.parameters())
    assert "head.bias" not in soft.state_dict() and soft(X[:0]).shape == (0, 3, 4, 4)


def test_networks_whose_code_fixes_the_batch_keep_their_names() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.relu(self.linear(x[row])) for row in range(int(x.shape[0]))])

    first, second = Fixed(), Fixed()
    soft = curvature.soften(ma.capture(first, torch.zeros(2, 3)), 0.5, "expected")
    soft.load_state_dict(second.state_dict())
    x = torch.randn(6, 3)
    assert_close(soft(x), nn.functional.silu(second.linear(x)))


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"beta": 1.5}, BadInput, r"beta: 1.5 for 'prelu' is not in \[0, 1\]"),
    ({"beta": -0.1}, BadInput, "beta"),
    ({"beta": float("nan")}, BadInput, "beta"),
    ({"beta": 1.0, "trainable": True}, BadInput, "strictly between"),
    ({"beta": 0.0, "trainable": "channel"}, BadInput, "strictly between"),
    ({"beta": {"nothing": 0.5}}, BadInput, "beta.*nothing.*max_pool2d"),
    ({"beta": 0.5, "operators": ["conv"]}, BadInput, "operators.*conv.*prelu"),
    ({"beta": 0.5, "operators": []}, BadInput, "operators"),
    ({"beta": {"relu": 0.5}, "operators": ["relu"]}, BadInput, "operators: beta is a dict"),
    ({"beta": torch.full((7,), 0.5)}, ShapeMismatch, r"\(7,\).*'prelu' has 3 channels"),
    ({"beta": torch.full((3, 1), 0.5)}, ShapeMismatch, "channels"),
    ({"beta": 0.5, "form": "soft"}, BadInput, "form.*expected.*energy.*mixed"),
    ({"beta": 0.5, "mix": 2.0}, BadInput, "mix"),
    ({"beta": 0.5, "mix": 1.0, "trainable": True}, BadInput, "mix.*starts inside"),
    ({"beta": 0.5, "trainable": "layer"}, BadInput, "trainable"),
    ({"beta": {"prelu": 0.5, "relu": 0.6}, "trainable": True}, BadInput, "differs.*'operator'"),
    ({"beta": torch.full((3,), 0.5), "operators": ["relu"], "trainable": True}, BadInput, "one per channel.*'channel'"),
    ({"beta": torch.full((3,), 0.5), "operators": ["relu"], "trainable": "operator"}, BadInput, "'channel'"),
    ({"beta": 0.5, "example": X}, BadInput, "example.*captured already"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD, ids=lambda item: str(item)[:30])
def test_bad_input_is_refused_with_its_place(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        curvature.soften(net(), **options)


def test_bad_networks_are_refused() -> None:
    with pytest.raises(BadInput, match="example"):
        curvature.soften(module(), 0.9)
    with pytest.raises(BadInput, match="no piecewise-affine operator"):
        curvature.soften(nn.Linear(3, 2), 0.9, example=torch.zeros(1, 3))
    with pytest.raises(BadInput, match="double"):
        curvature.soften(net().double(), 0.9)
    with pytest.raises(BadInput, match="soft_codes"):
        curvature.soften(_Taken(), 0.9, example=torch.zeros(2, 3))
    steps = ma.capture(nn.ReLU(), torch.zeros(4, 2, 3), batch_dim=1)
    with pytest.raises(BadInput, match="no axis of channels"):
        curvature.soften(steps, torch.full((3,), 0.5))
    soft = curvature.soften(net(), 0.9)
    with pytest.raises(ShapeMismatch, match=r"\(5, 1, 5, 5\)"):
        soft(torch.zeros(5, 1, 5, 5))
    with pytest.raises(BadInput, match="inputs"):
        soft(X, X)


class _Taken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.soft_codes = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.soft_codes(x))


def test_a_parameter_that_a_rule_hides_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hidden(ma.operators.Operator):
        """A rule of a user's own that keeps a parameter in a closure."""

        def __init__(self, weight: Tensor) -> None:
            self.run = lambda x: x * weight

        @property
        def traits(self) -> ma.operators.Traits:
            return ma.operators.Traits("mul")

        def __call__(self, *inputs: Any) -> Any:
            return self.run(inputs[0])

        def local(self, inputs: Any, value: Any) -> Any:
            raise NotImplementedError

    from maxaffine._capture import registry  # noqa: PLC0415

    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    ma.operators.rule(torch.ops.aten.mul.Tensor)(lambda call: Hidden(call["other"]))

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x * self.scale)

    with pytest.raises(BadInput, match="'scale'.*closure"):
        curvature.soften(Scaled(), 0.9, example=torch.zeros(2, 3))


def test_an_operator_of_a_rule_without_splines_is_refused() -> None:
    step = next(step for step in net().graph.steps if step.records and step.records[0].name == "relu")
    assert "rule does not say" in ma.operators.Operator.hard(step.operator)
    with pytest.raises(NotPiecewiseAffine, match="gt"):
        curvature.soften(_Jump(), 0.9, example=torch.zeros(2, 3))


class _Jump(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0)
