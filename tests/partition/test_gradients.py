"""Exact integrated gradients: completeness, hand-made networks, many steps of the approximation, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._partition import integrated_gradients, line
from maxaffine._partition.lines.gradients import along
from maxaffine._partition.lines.means import mean_slopes, parts_of
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured
from tests.zoo.networks import Net

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
    found = integrated_gradients(captured(case), inputs, output=0)
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
    found = integrated_gradients(captured(case), inputs)
    assert isinstance(found.attributions, tuple)
    assert [tuple(item.shape) for item in found.attributions] == [(2, 1, 6, 6), (2, 4)]
    assert found.completeness < 1e-10


def test_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    x = 5 * torch.randn(1, 4, dtype=F64)
    net = ma.capture(module, x)
    whole = integrated_gradients(net, x)
    monkeypatch.setattr("maxaffine._partition.lines.means.BLOCK_BYTES", 1)
    monkeypatch.setattr("maxaffine._partition.lines.means.ROWS", 1)
    assert_close(integrated_gradients(net, x, progress=False).attributions, whole.attributions)


def test_a_wrong_gradient_is_noticed() -> None:
    """Completeness is measured, not assumed: slopes of another network fail it."""
    module = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    other = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    x = torch.randn(1, 4, dtype=F64)
    parts = line(ma.capture(module, x), torch.zeros(1, 4, dtype=F64), x)
    target = line(ma.capture(other, x), torch.zeros(1, 4, dtype=F64), x).target
    assert along(replace(parts, target=target)).completeness > 1e-3


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


def test_nothing_to_attribute() -> None:
    """No outputs, or no numbers in: a result without entries, of the right shape."""
    x = torch.randn(1, 6, dtype=F64)
    layer = nn.Linear(6, 4).double()
    found = integrated_gradients(ma.capture(Net(lambda m, x: m.a(x).relu()[:, :0], a=layer), x), x)
    assert isinstance(found.attributions, Tensor)
    assert found.attributions.shape == (0, 6) and found.difference.shape == (0,) and found.completeness == 0.0
    for function, shape in ((lambda m, x: x.relu(), (0, 0)), (lambda m, x: x.relu().sum(1), (0,))):
        found = integrated_gradients(ma.capture(Net(function), x[:, :0]), x[:, :0])
        assert isinstance(found.attributions, Tensor)
        assert found.attributions.shape == shape and not found.difference.any() and found.completeness == 0.0


@pytest.mark.parametrize(
    ("x", "baseline", "said"),
    [
        (torch.zeros(0, 4), None, "^x: the batch is empty; give at least one sample"),
        (torch.zeros(1, 4), torch.zeros(0, 4), "^baseline: the batch is empty; give at least one sample"),
        (torch.zeros(1, 4), torch.zeros(2, 4), "^baseline: it holds 2 samples, and x 1; .*as background="),
        (torch.zeros(3, 4), torch.zeros(2, 4), "^baseline: it holds 2 samples, and x 3; .*one for each"),
        (torch.zeros(1, 4), torch.zeros(1, 3), "^baseline: .*shape"),
    ],
)
def test_numbers_of_samples_that_do_not_fit(x: Tensor, baseline: Tensor | None, said: str) -> None:
    net = ma.capture(nn.Linear(4, 2), torch.zeros(1, 4))
    with pytest.raises(ma.BadInput, match=said):
        integrated_gradients(net, x, baseline)


def test_no_memory_at_all_is_refused() -> None:
    with pytest.raises(ma.BadInput, match="memory: expected a number of bytes, got -1"):
        integrated_gradients(ma.capture(nn.Linear(4, 2), torch.zeros(1, 4)), torch.ones(1, 4), memory=-1)


def _small() -> tuple[nn.Module, Tensor, Tensor]:
    """A network with two hidden layers, three inputs and four others."""
    torch.manual_seed(4)
    module = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 16), nn.LeakyReLU(), nn.Linear(16, 3)).double()
    return module, 3 * torch.randn(3, 5, dtype=F64), 3 * torch.randn(4, 5, dtype=F64)


@pytest.mark.parametrize("baselines", [0, 1, 3])
def test_several_inputs_at_once_give_what_each_gives(baselines: int) -> None:
    module, x, others = _small()
    net, baseline = ma.capture(module, x), others[:baselines] if baselines else None
    found = integrated_gradients(net, x, baseline)
    assert isinstance(found.attributions, Tensor)
    assert found.attributions.shape == (3, 3, 5) and found.samples == 3 and found.exact
    for place in range(3):
        own = None if baseline is None else baseline[place if baselines == 3 else 0][None]
        alone = integrated_gradients(net, x[place : place + 1], own)
        assert_close(found.attributions[place], alone.attributions)
        assert_close(found.difference[place], alone.difference)
    assert found.plot(sample=2, output=1) is not None
    with pytest.raises(ma.BadInput, match="sample: there are 3, got 3"):
        found.plot(sample=3)


def test_expected_gradients_are_the_mean_and_complete() -> None:
    module, x, others = _small()
    net = ma.capture(module, x)
    found = integrated_gradients(net, x, background=others, outputs=[2, 0])
    assert isinstance(found.attributions, Tensor)
    assert found.attributions.shape == (3, 2, 5)
    expected = (module(x) - module(others).mean(0)).detach()[:, [2, 0]]
    assert_close(found.difference, expected, rtol=1e-12, atol=1e-12)
    assert_close(found.attributions.sum(-1), expected, rtol=1e-10, atol=1e-10)
    ways = [integrated_gradients(net, x[:1], other[None], outputs=[2, 0]) for other in others]
    items = [way.attributions for way in ways if isinstance(way.attributions, Tensor)]
    assert_close(found.attributions[0], torch.stack(items).mean(0))
    # The approximation, whose samples of t fall anywhere, comes near it.
    near = torch.stack([riemann(module, x[:1], other[None], 20_000) for other in others]).mean(0)
    zero = integrated_gradients(net, x[:1], background=others, outputs=[0]).attributions
    assert isinstance(zero, Tensor)
    assert float((near - zero[0]).abs().max()) < 1e-2
    with pytest.raises(ma.BadInput, match="background: it takes the place of baseline"):
        integrated_gradients(net, x, others[:1], background=others)
    with pytest.raises(ma.BadInput, match="^background: .*shape"):
        integrated_gradients(net, x, background=others[:, :4])


def test_infinite_outputs_have_no_difference() -> None:
    mask, x = torch.tensor([True, False]), torch.randn(1, 4, dtype=F64)
    module = Net(lambda m, x: m.a(x).masked_fill(m.mask, -torch.inf), a=nn.Linear(4, 2), mask=mask).double()
    net = ma.capture(module, x)
    with pytest.raises(ma.BadInput, match="infinite at an end of the line.*name the finite ones by outputs="):
        integrated_gradients(net, x)
    found = integrated_gradients(net, x, outputs=[1])
    assert_close(found.attributions, module.get_parameter("a.weight").detach()[1:] * x)


@pytest.mark.parametrize("block", [1, 2**12, 2**24])
def test_means_by_parts_are_those_of_all_maps(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network in parts, a skip connection among them: the slopes of every piece, weighted by its length."""
    torch.manual_seed(3)
    layers = nn.ModuleList([nn.Linear(6, 20), nn.Linear(20, 20), nn.Linear(20, 12), nn.Linear(12, 4)])

    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: Tensor) -> Tensor:
            x = self.layers[0](x).relu()
            x = (x + self.layers[1](x).relu()).clamp(max=1.5)
            return self.layers[3](nn.functional.leaky_relu(self.layers[2](x)))

    module = Skipping().double()
    a, b = (3 * torch.randn(2, 6, dtype=F64)).split(1)
    parts = line(ma.capture(module, a), a, b)
    before, after = parts_of(parts.target.graph, whole=False)
    assert before is not None and [part.operators for part in after] == [0, 1, 2, 3, 3, 4]
    monkeypatch.setattr("maxaffine._partition.lines.means.BLOCK_BYTES", block)
    slopes = parts.affine_map().slopes
    assert isinstance(slopes, Tensor)
    assert_close(mean_slopes(parts, False)[0], torch.tensordot(parts.lengths, slopes, 1))
    monkeypatch.setattr("maxaffine._partition.lines.means.SMALL", 0)  # no matrices in place of operators
    assert_close(mean_slopes(parts, False)[0], torch.tensordot(parts.lengths, slopes, 1))
