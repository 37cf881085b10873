"""Networks without offsets, with zero offsets, and with offsets that cancel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._templates import bias_free
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured


class Cancelling(nn.Module):
    """relu(Wx + c) - c: the offsets cancel where every unit is on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x)) - self.layer.bias


def _net(*layers: nn.Module) -> ma.SplineNetwork:
    return ma.capture(nn.Sequential(*layers).double().eval(), torch.zeros(1, 3, dtype=torch.float64))


X = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_without_biases_the_templates_make_the_logits() -> None:
    net = _net(nn.Linear(3, 8, bias=False), nn.LeakyReLU(), nn.Linear(8, 4, bias=False))
    report = bias_free(net, X)
    assert report.everywhere and report.here and not report.operators and report.largest == 0
    result = net.templates(X)
    assert_close(result.inner, result.values)
    assert "at every x" in str(report)


def test_biases_of_zero_are_none() -> None:
    layer = nn.Linear(3, 4)
    nn.init.zeros_(layer.bias)
    assert bias_free(_net(layer, nn.ReLU()), X).everywhere


def test_biases_are_named() -> None:
    report = bias_free(_net(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), X)
    assert not report.everywhere and not report.here and report.operators == ("0", "2") and report.largest > 0
    assert "2 operators have an offset (0, 2)" in str(report)


def test_biases_that_cancel_cancel_only_there() -> None:
    module = Cancelling().double().eval()
    with torch.no_grad():
        module.layer.weight.copy_(torch.eye(3))
        module.layer.bias.copy_(torch.tensor([0.3, 1.0, 2.0]))
    net = ma.capture(module, X)
    inside = bias_free(net, X.abs())
    assert inside.here and not inside.everywhere and inside.operators and inside.largest < 1e-12
    assert "cancel at these 5 inputs" in str(inside)
    assert not bias_free(net, -5 * X.abs()).here


def test_an_offset_on_another_piece_is_not_overlooked() -> None:
    """ReLU6 adds an offset where it clips, and nothing below."""
    net = _net(nn.Linear(3, 4, bias=False), nn.ReLU6())
    small = bias_free(net, X / 100)
    assert small.here and not small.everywhere and not small.operators
    assert "no operator adds an offset at these 5 inputs" in str(small)
    large = bias_free(net, X * 1000)
    assert not large.here and large.operators == ("1",)


def test_until_stops_in_front_of_a_bias() -> None:
    net = _net(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    assert bias_free(net, X, until="1").everywhere and not bias_free(net, X).everywhere


@pytest.mark.parametrize("case", [case for case in ZOO if case.biasless or case.outputs == 1][2::7], ids=str)
def test_the_proof_is_sound(case: Case) -> None:
    """What is proved holds far away too: f(t x) = A[t x] t x; what the zoo knows to have no bias has none here."""
    inputs = case.inputs(3)
    net = captured(case)
    x = inputs[0] if len(case.shapes) == 1 else inputs
    report = bias_free(net, x, output=0)
    assert report.here >= (report.everywhere or case.biasless)
    if report.everywhere:
        for factor in (0.0, 0.01, 1000.0):
            far = [item * factor for item in inputs]
            result = net.templates(tuple(far) if len(far) > 1 else far[0], output=0)
            assert_close(result.inner, result.values, rtol=1e-9, atol=1e-9 * max(1.0, factor))
