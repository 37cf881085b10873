"""Exact integrated gradients: completeness, hand-made networks, many steps of the approximation, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine.partition import integrated_gradients, line
from maxaffine.partition.lines.gradients import along
from tests.zoo import ZOO, Case

F64 = torch.float64
CASES = [case for case in ZOO if case.name in {"residual", "dense", "tuple_output", "unet"}]


def riemann(module: nn.Module, x: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """The mean gradient of output 0 at the middles of equal steps, times x - baseline."""
    t = (torch.arange(steps, dtype=F64) + 0.5) / steps
    points = torch.lerp(baseline, x, t.view(-1, *([1] * (x.dim() - 1)))).requires_grad_()
    (gradient,) = torch.autograd.grad(module(points)[:, 0].sum(), points)
    return (gradient.mean(0) * (x - baseline)[0]).detach()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_complete(case: Case) -> None:
    inputs = case.inputs(1)
    found = integrated_gradients(ma.capture(case.build(), case.inputs(2)), inputs, output=0)
    assert found.completeness < 1e-10
    total = found.attributions.flatten(found.difference.dim()).sum(-1)  # type: ignore[union-attr]
    assert_close(total, found.difference, rtol=1e-10, atol=1e-10)


def test_the_approximation_converges_to_it() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.LeakyReLU(), nn.Linear(32, 3)).double()
    x, baseline = (3 * torch.randn(2, 6, dtype=F64)).split(1)
    found = integrated_gradients(ma.capture(module, x), x, baseline, outputs=[0]).attributions
    assert isinstance(found, Tensor)
    errors = [float((riemann(module, x, baseline, steps) - found[0]).abs().max()) for steps in (20, 2000, 200_000)]
    assert errors[2] < 2e-4 < errors[0] and errors[2] < errors[1] / 5


def test_by_hand() -> None:
    """relu(x - y) from (0, 1) to (2, 0): zero for the first third, then gradient (1, -1)."""

    class Hinge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x[:, :1] - x[:, 1:])

    x, baseline = torch.tensor([[2.0, 0.0]], dtype=F64), torch.tensor([[0.0, 1.0]], dtype=F64)
    found = integrated_gradients(ma.capture(Hinge(), x), x, baseline)
    assert found.pieces == 2
    assert_close(found.attributions, torch.tensor([[4 / 3, 2 / 3]], dtype=F64))
    assert "2 pieces" in repr(found)


def test_several_inputs() -> None:
    (case,) = [case for case in ZOO if case.name == "image_and_vector"]
    inputs = case.inputs(1)
    found = integrated_gradients(ma.capture(case.build(), case.inputs(2)), inputs)
    assert isinstance(found.attributions, tuple)
    assert [tuple(item.shape) for item in found.attributions] == [(2, 1, 6, 6), (2, 4)]
    assert found.completeness < 1e-10


def test_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    x = 5 * torch.randn(1, 4, dtype=F64)
    net = ma.capture(module, x)
    whole = integrated_gradients(net, x)
    monkeypatch.setattr("maxaffine.partition.lines.target.POINT_BYTES", 1)
    assert_close(integrated_gradients(net, x, progress=False).attributions, whole.attributions)


def test_a_wrong_gradient_is_noticed() -> None:
    """Completeness is measured, not assumed: slopes of another network fail it."""
    module = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    other = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    x = torch.randn(1, 4, dtype=F64)
    parts = line(ma.capture(module, x), torch.zeros(1, 4, dtype=F64), x)
    parts.target.segment = line(ma.capture(other, x), torch.zeros(1, 4, dtype=F64), x).target.segment
    assert along(parts).completeness > 1e-3


def test_jumps_and_unfinished_lines_are_refused() -> None:
    net = ma.capture(nn.Hardshrink(0.5), torch.zeros(1, 1))
    with pytest.raises(ma.BadInput, match="jumps"):
        integrated_gradients(net, torch.ones(1, 1))
    module = nn.Sequential(nn.Linear(1, 20), nn.ReLU())
    parts = line(
        ma.capture(module, torch.zeros(1, 1)), -9 * torch.ones(1, 1), 9 * torch.ones(1, 1), memory=1, max_pieces=2
    )
    with pytest.raises(ma.BadInput, match="unfinished"):
        along(parts)
