"""Nearest decisions: against brute force over all pieces, a grid, sampling and gradients; what must be refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

import maxaffine as ma
from maxaffine._partition.decisions import search
from maxaffine._partition.decisions.bounds import Multipliers, above, enclose, unknown
from maxaffine._partition.decisions.domain import Domain
from maxaffine._partition.decisions.program import program_of
from maxaffine._partition.decisions.question import Question
from maxaffine._partition.inputs import seconds
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured

F64 = torch.float64
INF = float("inf")
Piece = tuple[float, float, float, float]  # slope, offset, and the ends between which it holds
RELU: Sequence[Piece] = ((0, 0, -INF, 0), (1, 0, 0, INF))
LEAKY: Sequence[Piece] = ((0.1, 0, -INF, 0), (1, 0, 0, INF))
CLAMP: Sequence[Piece] = ((0, -0.3, -INF, -0.3), (1, 0, -0.3, 0.4), (0, 0.4, 0.4, INF))
ACTIVATIONS = {"relu": (nn.ReLU(), RELU), "leaky": (nn.LeakyReLU(0.1), LEAKY), "clamp": (nn.Hardtanh(-0.3, 0.4), CLAMP)}
WRITTEN = [
    case
    for case in ZOO
    if case.name
    in {
        "mlp_prelu", "mlp_hardsigmoid", "mlp_softshrink", "clamp_by_tensors", "maximum_with_constant", "max_then_min",
        "maxout_amax", "amax_of_two_dims", "crelu", "residual", "two_inputs", "image_and_vector", "sort", "topk",
        "median", "kthvalue", "cummax", "rnn_time_first", "max_pool2d_overlapping", "max_pool2d_dilated", "resnet",
        "adaptive_max_pool2d", "densenet", "unet", "maxout_convnet",
    }
]  # fmt: skip
JUMPING = [
    case for case in ZOO if case.name in {"sign", "mlp_hardshrink", "where_on_comparison", "gather_by_own_argmax"}
]


def mlp(widths: Sequence[int], activation: nn.Module, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b), activation]
    return nn.Sequential(*layers[:-1]).double()


def ask(model: nn.Module, x: Tensor, **options: object) -> ma.partition.NearestDecision:
    return ma.partition.nearest_decision(ma.capture(model, x), x, **options)  # type: ignore[arg-type]


def brute_force(
    model: nn.Sequential,
    pieces: Sequence[Piece],
    x: np.ndarray,
    norm: float,
    low: np.ndarray | float = 0.0,
    high: np.ndarray | float = 1.0,
) -> float:
    """The distance by one linear program for every way in which all units may be on their pieces."""
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    units = sum(layer.out_features for layer in linear[:-1])
    own = int(model(torch.as_tensor(x)[None]).argmax())
    count, best = len(x), INF
    for pattern in product(pieces, repeat=units):
        slopes, offsets, rows, sides, at = np.eye(count), np.zeros(count), [], [], 0
        for layer in linear:
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
            slopes, offsets = weight @ slopes, weight @ offsets + bias
            if layer is linear[-1]:
                break
            for unit in range(len(bias)):
                slope, offset, least, most = pattern[at + unit]
                for sign, end in ((1, most), (-1, least)):
                    if np.isfinite(end):
                        rows.append(sign * slopes[unit])
                        sides.append(sign * (end - offsets[unit]))
                slopes[unit], offsets[unit] = slope * slopes[unit], slope * offsets[unit] + offset
            at += len(bias)
        for rival in range(len(offsets)):
            if rival != own:
                change = nearest(
                    [*rows, slopes[own] - slopes[rival]], [*sides, offsets[rival] - offsets[own]], x, norm, low, high
                )
                best = min(best, change)
    return best


def nearest(
    rows: Sequence[np.ndarray],
    sides: Sequence[float],
    x: np.ndarray,
    norm: float,
    low: np.ndarray | float,
    high: np.ndarray | float,
) -> float:
    count = len(x)
    moves = np.ones((count, 1)) if norm == INF else np.eye(count)
    extra = moves.shape[1]
    matrix = np.block([
        [np.array(rows), np.zeros((len(rows), extra))],
        [np.eye(count), -moves],
        [-np.eye(count), -moves],
    ])  # fmt: skip
    ends = np.stack([np.broadcast_to(low, count), np.broadcast_to(high, count)], 1).astype(float)
    bounds = [*map(tuple, ends), *[(0, None)] * extra]
    costs = np.concatenate([np.zeros(count), np.ones(extra)])
    found = linprog(costs, matrix, np.concatenate([sides, x, -x]), bounds=bounds)
    return float(found.fun) if found.status == 0 else INF


def agrees(found: ma.partition.NearestDecision, distance: float) -> bool:
    """Whether an answer is proved and right, to what the oracle's solver allows."""
    near = abs(found.distance - distance) <= 1e-6 * (1 + distance)
    return found.proved and near and found.lower_bound <= distance + 1e-6 <= found.distance + 2e-6


@pytest.mark.parametrize("norm", [INF, 1])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_distance_is_that_of_brute_force(name: str, norm: float, seed: int) -> None:
    activation, pieces = ACTIVATIONS[name]
    model = mlp([3, 3, 2, 3] if len(pieces) == 2 else [2, 2, 2, 3], activation, seed)
    x = torch.rand(1, model[0].in_features, dtype=F64)  # type: ignore[arg-type]
    found = ask(model, x, norm=norm, bounds=(-1, 2))
    expected = brute_force(model, pieces, x[0].numpy(), norm, -1.0, 2.0)
    if expected == INF:
        assert found.proved and found.rival is None and found.distance == found.lower_bound == INF
        return
    assert agrees(found, expected)
    assert found.verify(model) >= 0
    # The check can fail: an answer that is a little too far, and a lower bound that is a little too large.
    assert not agrees(replace(found, distance=1.01 * found.distance), expected)
    assert not agrees(replace(found, lower_bound=1.01 * found.distance + 1e-5), expected)


class Selecting(nn.Module):
    """Two numbers through convolution, strided max-pooling with padding, and what sorts, selects and adds."""

    def __init__(self) -> None:
        super().__init__()
        self.spread, self.conv = nn.Linear(2, 36), nn.Conv2d(1, 2, 3, padding=1)
        self.pool, self.last = nn.MaxPool2d(3, stride=2, padding=1), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.pool(torch.relu(self.conv(self.spread(x).reshape(-1, 1, 6, 6)))).flatten(1)
        median = z[:, :9].reshape(-1, 3, 3).median(2).values
        top = z[:, 9:13].topk(3).values
        return self.last(torch.cat([z[:, :4] + nn.functional.relu6(z[:, 8:12]), median, top, -x.abs()], 1))


@pytest.mark.parametrize("seed", [3, 5])
@pytest.mark.parametrize("norm", [INF, 1])
def test_selections_agree_with_a_grid(seed: int, norm: float) -> None:
    torch.manual_seed(seed)
    model, side = Selecting().double(), torch.linspace(-1, 1, 201, dtype=F64)
    x = torch.tensor([[0.11, -0.23]], dtype=F64)
    grid = torch.cartesian_prod(side, side)
    other = model(grid).argmax(1) != model(x).argmax()
    distances = torch.linalg.vector_norm(grid - x, norm, 1)
    nearest_of_grid = float(torch.where(other, distances, INF).min())
    found = ask(model, x, norm=norm, bounds=(-1, 1))
    assert found.proved and found.verify(model) >= 0
    # The grid can only be farther, and by little more than its step (0.01) where the class beyond is not a sliver.
    assert found.distance <= nearest_of_grid
    assert nearest_of_grid - found.distance < 0.05


def steepest(model: nn.Module, x: Tensor, steps: int = 40) -> list[Tensor]:
    """Points of another class by projected gradients at several radii, from random starts."""
    own, points = int(model(x).argmax()), []
    for radius in (0.02, 0.05, 0.1, 0.2, 0.4):
        z = (x + radius * (2 * torch.rand(16, *x.shape[1:], dtype=F64) - 1)).clamp(0, 1)
        for _ in range(steps):
            z.requires_grad_()
            logits = model(z)
            gap = logits[:, own] - logits.masked_fill(torch.arange(logits.shape[1]) == own, -INF).amax(1)
            (gradient,) = torch.autograd.grad(gap.sum(), z)
            points.append(z.detach()[(gap <= 0).detach()])
            z = (z.detach() - radius / 8 * gradient.sign()).clamp(x - radius, x + radius).clamp(0, 1)
    return points


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**20))
def test_nothing_that_changes_the_class_is_nearer(seed: int) -> None:
    model = mlp([6, 8, 8, 4], nn.ReLU(), seed)
    x = torch.rand(1, 6, dtype=F64)
    found = ask(model, x)
    assert found.proved
    scattered = torch.rand(4096, 6, dtype=F64)
    points = torch.cat([*steepest(model, x), scattered[model(scattered).argmax(1) != model(x).argmax()]])
    if len(points):
        assert float((points - x).abs().amax(1).min()) >= found.lower_bound
    if found.point is not None:
        assert abs(float((found.point - x).abs().max()) - found.distance) < 1e-12
        assert found.point.min() >= 0 and found.point.max() <= 1


@pytest.mark.parametrize("case", WRITTEN, ids=str)
def test_program_computes_what_the_module_does(case: Case) -> None:
    net = captured(case)
    inputs = case.inputs(3, F64)
    number = net.graph.outputs[0]
    graph = net.graph
    x = torch.cat([graph.values[n].to_rows(i) for n, i in zip(graph.inputs, inputs, strict=True)], 1).numpy()
    program = program_of(net, [number], x[0], x[0] - 1, x[0] + 1)
    found = program.run(x) @ program.outputs.wide(program.size).toarray().T + program.outputs.offsets
    leaves = tree_leaves(case.build(F64).eval()(*inputs))
    assert_close(torch.as_tensor(found), graph.values[number].to_rows(leaves[0].detach()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", JUMPING, ids=str)
def test_what_jumps_is_refused_by_name(case: Case) -> None:
    net = captured(case)
    with pytest.raises(ma.NotPiecewiseAffine, match="jumps where its code changes"):
        program_of(net, [net.graph.outputs[0]], np.zeros(6), -np.ones(6), np.ones(6))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([1.0, INF]))
def test_bounds_hold_for_any_multipliers(seed: int, norm: float) -> None:
    model, random = mlp([4, 6, 6, 2], nn.LeakyReLU(0.2), seed), np.random.default_rng(seed)
    x = random.random(4)
    net = ma.capture(model, torch.zeros(1, 4, dtype=F64))
    program = program_of(net, [net.graph.outputs[0]], x, x - 1, x + 1)
    domain = Domain(x, x - 1, x + 1, norm).within(0.7)
    bounds = enclose(program, domain, unknown(program))
    moves = random.uniform(-1, 1, (256, 4))
    points = x + 0.7 * moves / np.maximum(1, np.abs(moves).sum(1, keepdims=True) if norm == 1 else 1)
    values = program.run(points)
    for stage in program.stages:
        if stage.rectified:
            arguments = values @ stage.rows.wide(program.size).toarray().T + stage.rows.offsets
            assert (arguments >= bounds.low[stage.start : stage.stop]).all()
            assert (arguments <= bounds.high[stage.start : stage.stop]).all()
    margin = program.outputs[np.array([1])] - program.outputs[np.array([0])]
    margins = (values @ margin.wide(program.size).toarray().T + margin.offsets)[:, 0]
    multipliers = Multipliers(3 * random.random(program.size), random.random(program.size))
    level = float(np.quantile(margins, 0.9))
    away = domain.distance(points[margins >= level])
    for chosen in (None, multipliers):
        slopes, at_x = above(program, bounds, domain, margin, -level, chosen)
        (bound,), _ = domain.nearest(slopes, -at_x)
        assert bound <= away.min()
        # Beyond the halfspace that this bound leaves are closer bounds of all units, and they hold.
        cut = enclose(program, replace(domain, cut=(slopes[0], float(at_x[0]))), bounds)
        for stage in program.stages:
            if stage.rectified:
                at = slice(stage.start, stage.stop)
                arguments = values[margins >= level] @ stage.rows.dense(program.size).T + stage.rows.offsets
                assert (arguments >= cut.low[at]).all() and (arguments <= cut.high[at]).all()
    # The check can fail: bounds of a smaller box do not hold in all of this one.
    narrow = domain.within(0.01)
    wrong = enclose(program, narrow, unknown(program))
    stage = next(stage for stage in program.stages if stage.rectified)
    arguments = values @ stage.rows.wide(program.size).toarray().T + stage.rows.offsets
    assert (arguments > wrong.high[stage.start : stage.stop]).any()


def table() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    return model, torch.tensor([[2.0, 5.0, 0.5, 1.0]], dtype=F64)


def test_counterfactuals_keep_integers_and_fixed_features() -> None:
    model, x = table()
    bounds = ([0, 0, 0, 0], [9, 9, 1, 3])
    own = int(model(x).argmax())
    found = ask(model, x, norm=1, bounds=bounds, integers=[0, 1, 3], fixed=torch.tensor([False, False, False, True]))
    free = ask(model, x, norm=1, bounds=bounds)
    # By hand: every choice of the whole numbers, and the line that is left of the third feature.
    best = INF
    for a, b in product(range(10), range(10)):
        t = torch.linspace(0, 1, 2001, dtype=F64)
        rows = torch.stack([torch.full_like(t, a), torch.full_like(t, b), t, torch.ones_like(t)], 1)
        other = model(rows).argmax(1) != own
        best = min(best, float(torch.where(other, (rows - x).abs().sum(1), INF).min()))
    assert found.proved and free.proved and found.point is not None
    assert free.distance <= found.distance <= best < found.distance + 1e-3
    assert found.point[0, 3] == 1 and (found.point[0, :2] == found.point[0, :2].round()).all()


@pytest.mark.parametrize("norm", [INF, 1])
@pytest.mark.parametrize("seed", range(6))
def test_whole_numbers_are_proved_as_by_trying_all(seed: int, norm: float) -> None:
    model = mlp([3, 6, 5, 3], nn.ReLU(), seed)
    with torch.no_grad():  # far enough from x that some features must move by several
        model[-1].bias -= 0.3 * (model[-1].bias + torch.arange(3))  # type: ignore[operator, union-attr]
    x = torch.tensor([[1.0, -2.0, 0.0]], dtype=F64)
    grid = torch.cartesian_prod(*[torch.arange(-4, 5, dtype=F64)] * 3)
    other = model(grid).argmax(1) != model(x).argmax()
    expected = float(torch.where(other, torch.linalg.vector_norm(grid - x, norm, 1), INF).min())
    found = ask(model, x, norm=norm, bounds=(-4, 4), integers=[0, 1, 2])
    assert found.proved and found.distance == expected


@pytest.mark.parametrize("norm", [INF, 1])
@pytest.mark.parametrize(("bias", "expected"), [(-2.5, 3), (-3 - 1e-9, 4), (-3, 3), (-5.5, INF)])
def test_the_next_whole_number_is_proved(bias: float, expected: float, norm: float) -> None:
    model, x = nn.Linear(1, 1).double(), torch.zeros(1, 1, dtype=F64)
    with torch.no_grad():
        model.weight.fill_(1)
        model.bias.fill_(bias)
    net = ma.capture(model, x, task="classes")
    found = ma.partition.nearest_decision(net, x, norm=norm, bounds=(-5, 5), integers=[0])
    assert found.proved and found.distance == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**20), st.sampled_from([1.0, INF]))
def test_distances_hold_in_boxes_beside_x(seed: int, norm: float) -> None:
    random = np.random.default_rng(seed)
    x, low = random.normal(size=3), random.normal(size=3)
    domain = Domain(x, low, low + random.random(3), norm)
    points = low + (domain.high - low) * random.random((2000, 3))
    slopes, missing = random.normal(size=(8, 3)), random.normal(size=8)
    reached = (points - x) @ slopes.T >= missing
    away = np.where(reached, domain.distance(points)[:, None], INF).min(0)
    found, _ = domain.nearest(slopes, missing)
    assert (found <= away + 1e-12).all()
    # As close as a linear program says.
    for row, need, distance in zip(slopes, missing, found, strict=True):
        least = nearest([-row], [-need - row @ x], x, norm, domain.low, domain.high)
        assert least == INF if distance == INF else abs(least - distance) < 1e-6
    radius = float(np.median(domain.distance(points)))
    within = domain.within(radius)
    inside = domain.distance(points) <= radius
    assert ((points[inside] - x) @ slopes.T <= within.gain(slopes) + 1e-12).all()
    # And beyond a cut, of which a tenth of the points is left.
    a = random.normal(size=3)
    c = -float(np.quantile((points[inside] - x) @ a, 0.9))
    cut = replace(within, cut=(a, c))
    left = points[inside & ((points - x) @ a + c >= 0)] - x
    assert (left @ slopes.T <= cut.gain(slopes) + 1e-12).all() and (cut.gain(slopes) <= within.gain(slopes)).all()
    if norm == INF:  # as far as a linear program says
        ends = np.stack([within.low - x, within.high - x], 1)
        for row, gain in zip(slopes, cut.gain(slopes), strict=True):
            assert abs(gain + linprog(-row, -a[None], [c], bounds=ends).fun) < 1e-6


def test_a_maximum_of_rectified_values_is_rectified_once() -> None:
    counts = []
    for activation in (nn.ReLU(), nn.LeakyReLU()):
        tail = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
        model = nn.Sequential(nn.Conv2d(1, 2, 3), activation, *tail).double()
        net = ma.capture(model, torch.zeros(1, 1, 6, 6, dtype=F64))
        program = program_of(net, [net.graph.outputs[0]], np.zeros(36), -np.ones(36), np.ones(36))
        counts.append(sum(len(stage.rows) for stage in program.stages if stage.rectified))
    # Eight windows of four entries: three comparisons each and one rectifier, or the rectifiers of all entries.
    assert counts == [8 * 3 + 8, 8 * 3 + 32]


def test_a_nearest_place_at_a_kink_is_proved() -> None:
    """There the rival falls back on the way from x on, and is ahead beside it alone."""
    model = mlp([3, 4, 3, 3], nn.ReLU(), 105)
    with torch.no_grad():
        model[-1].bias *= 0.7  # type: ignore[operator]
    x = torch.rand(1, 3, dtype=F64)
    assert agrees(ask(model, x, norm=1, bounds=(-1, 2)), brute_force(model, RELU, x[0].numpy(), 1, -1.0, 2.0))


def test_what_is_decided_beyond_a_cut_alone_is_not_taken_for_all_of_a_part() -> None:
    model, x = mlp([4, 10, 8, 3], nn.ReLU(), 3), torch.zeros(1, 4, dtype=F64)
    with torch.no_grad():
        model[-1].bias += 0.2 * torch.rand(3) - 0.8 * model(x)[0]  # type: ignore[operator]
    found = ask(model, x, norm=1, bounds=(-3, 3), integers=range(4))
    assert found.proved and found.distance == 3


class Plateau(nn.Module):
    """Two logits that tie wherever x is not positive."""

    def forward(self, x: Tensor) -> Tensor:
        r = torch.relu(x)
        return torch.cat([0 * r, r], 1)


@pytest.mark.parametrize("low", [0.0, -1.0, -INF])
def test_a_tie_on_a_plateau_is_found(low: float) -> None:
    x = torch.tensor([[0.5]], dtype=F64)
    found = ask(Plateau(), x, bounds=(low, 1))
    assert found.proved and found.rival == 0 and abs(found.distance - 0.5) < 1e-9
    assert found.margin == found.verify(Plateau()) == 0 and "(a tie, proved)" in repr(found)
    none = ask(Plateau(), x, bounds=(0.125, 1))
    assert none.proved and none.point is None and none.to_dict()["point"] is none.to_dict()["change"] is None


def test_what_stays_undecided_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Question, "witness", lambda *_: None)
    found = ask(Plateau(), torch.tensor([[0.5]], dtype=F64), bounds=(-1, 1), time_limit=INF)
    assert not found.proved and found.point is None and abs(found.lower_bound - 0.5) < 1e-9


def test_target_names_the_class() -> None:
    model, x = mlp([3, 6, 4], nn.ReLU(), 5), torch.full((1, 3), 0.5, dtype=F64)
    own = int(model(x).argmax())
    each = {c: ask(model, x, target=c, bounds=(-3, 3)) for c in range(4) if c != own}
    assert all(found.rival in (c, None) for c, found in each.items())
    assert abs(ask(model, x, bounds=(-3, 3)).distance - min(found.distance for found in each.values())) < 1e-8
    with pytest.raises(ma.BadInput, match=f"target: x is of class {own}"):
        ask(model, x, target=own)


def test_single_logit_has_two_classes() -> None:
    model = nn.Sequential(nn.Linear(2, 1)).double()
    model[0].weight.data, model[0].bias.data = torch.tensor([[2.0, -1.0]], dtype=F64), torch.tensor([-0.5], dtype=F64)
    net = ma.capture(model, torch.zeros(1, 2, dtype=F64), task="classes")
    found = ma.partition.nearest_decision(net, torch.tensor([[0.75, 0.25]], dtype=F64))
    # 2 a - b - 1/2 = 3/4 at x: both change by a quarter.
    assert (found.own, found.rival, found.proved) == (1, 0, True)
    assert abs(found.distance - 0.25) < 1e-8


def plain(rows: Sequence[Sequence[float]]) -> nn.Linear:
    layer = nn.Linear(2, len(rows), bias=False).double()
    layer.weight.data = torch.tensor(rows, dtype=F64)
    return layer


def test_ties_unreachable_classes_and_boxes_without_end() -> None:
    model = plain([[1, 0], [0, 1]])
    tied = ask(model, torch.tensor([[0.5, 0.5]], dtype=F64))
    assert (tied.distance, tied.lower_bound, tied.proved, tied.rival) == (0, 0, True, 1)
    x = torch.tensor([[0.9, 0.1]], dtype=F64)
    none = ask(model, x, bounds=([0.8, 0.0], [1.0, 0.2]))
    assert none.proved and none.point is None and none.distance == none.lower_bound == INF
    assert "no other class is reached within the bounds (proved)" in repr(none)
    with pytest.raises(ma.BadInput, match="no other class was found"):
        none.verify(model)
    assert ask(model, x, fixed=[0, 1]).distance == INF
    far = ask(model, 1000 * x, bounds=(-INF, INF))
    assert far.proved and abs(far.distance - 400) < 1e-5
    with pytest.raises(ma.BadInput, match="bounds: no other class was found near x"):
        ask(nn.Sequential(plain([[1, 0]]), Never()), x, bounds=(-INF, INF))


class Never(nn.Module):
    """Two logits of which the first is always larger."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x + 1, x], 1)


def nearly_tied(widths: Sequence[int]) -> tuple[nn.Sequential, Tensor]:
    """A network, and an input at which all classes are nearly level."""
    model, x = mlp(widths, nn.ReLU(), 1), torch.full((1, widths[0]), 0.5, dtype=F64)
    with torch.no_grad():
        model[-1].bias -= 0.7 * model(x)[0]  # type: ignore[operator]
    return model, x


def test_stopped_early_it_is_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nearly_tied([6, 16, 16, 4])
    whole = ask(model, x)
    calls = iter(range(10**6))
    # The clock stands still until some bounds are made, then the time is over.
    monkeypatch.setattr(search, "monotonic", lambda: 0.0 if next(calls) < 1 else INF)
    part = ask(model, x)
    assert whole.proved and not part.proved
    assert part.lower_bound <= whole.lower_bound <= whole.distance <= part.distance
    assert f"at least {part.lower_bound:.4g}" in repr(part)


def test_interrupted_it_is_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search.Search, "_divide", interrupt)
    model, x = nearly_tied([6, 16, 16, 4])
    with pytest.warns(UserWarning, match="interrupted"):
        found = ask(model, x)
    assert not found.proved and 0 < found.lower_bound < found.distance < INF


def test_a_point_that_changes_nothing_is_refused() -> None:
    model, x = mlp([4, 8, 3], nn.ReLU(), 0), torch.full((1, 4), 0.5, dtype=F64)
    found = ask(model, x, bounds=(-5, 5))
    with pytest.raises(ma.ExactnessError, match="above class"):
        replace(found, point=found.x).verify(model)


def test_float32_networks_are_asked_in_float64_and_results_speak() -> None:
    model = mlp([4, 8, 3], nn.ReLU(), 0).float()
    x = torch.full((1, 4), 0.5)
    found = ask(model, x, bounds=(-5, 5))
    assert found.proved and found.verify(model) > 0 and found.margin > 0
    assert found.point.dtype == F64 and model[0].weight.dtype == torch.float32
    assert_close(found.x + found.change, found.point)
    known = found.to_dict()
    assert known["rival"] == found.rival and known["point"] == [found.point[0].tolist()]
    assert (
        repr(found)
        == f"NearestDecision: from class {found.own} to {found.rival} at L-infinity {found.distance:.4g} (proved)"
    )


def test_picture_shows_input_change_and_point() -> None:
    pytest.importorskip("matplotlib")
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()
    found = ask(model, torch.rand(1, 1, 6, 6, dtype=F64), bounds=(-9, 9))
    ax = found.plot()
    titles = [inner.get_title(loc="left") for inner in ax.child_axes]  # type: ignore[attr-defined]
    assert titles[0] == f"class {found.own}" and titles[1].startswith("change") and titles[2] == f"class {found.rival}"
    with pytest.raises(ma.BadInput, match="item: there are 1 inputs"):
        found.plot(item=1)


BAD: Sequence[tuple[dict[str, object], str]] = [
    ({"norm": 2}, "norm: it is 1 or infinity"),
    ({"bounds": 3}, "bounds: expected"),
    ({"bounds": (0, [1, 1, 1])}, "bounds: expected one number or 2"),
    ({"bounds": (0.9, 1)}, "bounds: feature 0 of x is 0.75, outside"),
    ({"fixed": [2]}, "fixed: expected numbers"),
    ({"fixed": [True]}, "fixed: expected numbers"),
    ({"integers": [0.5]}, "integers: expected numbers"),
    ({"integers": [0]}, "integers: x itself"),
    ({"target": 7}, "target: x is of class 0"),
    ({"time_limit": 0}, "time_limit: expected seconds above 0, got 0"),
    ({"norm": True}, "norm: it is 1 or infinity"),
    ({"bounds": (1, 0)}, "bounds: of feature 0, 1 is not at most 0"),
    ({"bounds": (0, float("nan"))}, "bounds: of feature 0, 0 is not at most nan"),
    ({"bounds": ("a", 1)}, "bounds: expected numbers"),
    ({"fixed": "a"}, "fixed: expected numbers"),
    ({"target": True}, "target: x is of class 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value)[:30])
def test_bad_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(ma.BadInput, match=message):
        ask(plain([[1, 0], [0, 1]]), torch.tensor([[0.75, 0.25]], dtype=F64), **options)


@pytest.mark.parametrize("limit", [None, "1", True, float("nan"), 0])
def test_time_limits_are_numbers(limit: object) -> None:
    with pytest.raises(ma.BadInput, match="time_limit: expected seconds above 0, got"):
        seconds(limit)
    assert seconds(INF) == INF


def test_networks_that_have_no_nearest_decision() -> None:
    x = torch.zeros(1, 2)
    ask_it: Callable[..., object] = ma.partition.nearest_decision
    with pytest.raises(ma.BadInput, match="the network gives values, not classes"):
        ask_it(ma.capture(nn.Linear(2, 3), x, task="values"), x)
    smooth = ma.capture(nn.Sequential(nn.Linear(2, 3), nn.GELU()), x, smooth="frozen")
    with pytest.raises(ma.NotPiecewiseAffine, match="it is smooth"):
        ask_it(smooth, x)
    with pytest.raises(ma.BadInput, match="2 samples"):
        ask_it(ma.capture(nn.Linear(2, 3), x), torch.zeros(2, 2))
    mixed = (x, torch.zeros(1, dtype=torch.long))
    with pytest.raises(ma.BadInput, match="not floating point"):
        ask_it(ma.capture(Shifted(), mixed), mixed)


class Shifted(nn.Module):
    """Numbers, and a number of what is added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 2)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return x + self.table(ids)


@pytest.mark.parametrize("bound", [0.2, 1.0, 5.0])
def test_a_unit_that_is_zero_all_over_is_no_disagreement(bound: float) -> None:
    """Soft shrinkage is zero where three terms cancel, up to their rounding."""
    torch.manual_seed(0)
    first = nn.Linear(3, 6)
    first.weight.data[0], first.bias.data[0] = 0.0, 0.0
    model, x = nn.Sequential(first, nn.Softshrink(0.5), nn.Linear(6, 3)).double(), torch.zeros(1, 3, dtype=F64)
    found = ma.partition.nearest_decision(ma.capture(model, x), x, bounds=(-bound, bound))
    assert found.proved and (bound < 5) == (found.rival is None)
