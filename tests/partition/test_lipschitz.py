"""The Lipschitz constant of a box: known ones, autograd at the witness, two algorithms, and differences of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._partition.space import lipschitz as searching
from maxaffine._partition.space.lipschitz import Lipschitz
from maxaffine._partition.space.norms import Stage, norm_bounds
from maxaffine._partition.space.regions import box_of
from maxaffine._partition.space.slopes import Selecting, SlopeBounds
from maxaffine.partition import lipschitz
from tests.partition.test_all_regions import Of, captured, mlp, whole_numbers

F64 = torch.float64
INF = float("inf")


def slopes_at(module: nn.Module, places: Tensor) -> Tensor:
    """(places, outputs, inputs) by autograd on the untouched module."""
    return torch.stack([torch.autograd.functional.jacobian(lambda x: module(x[None])[0], place) for place in places])


def norms(slopes: Tensor, norm: float) -> Tensor:
    return torch.linalg.matrix_norm(slopes, 2) if norm == 2 else slopes.abs().sum(2).amax(1)


def check(found: Lipschitz, module: nn.Module, low: float = -1, high: float = 1) -> None:
    """The witness is in the box and as steep as is said, and nothing sampled is steeper than the upper end."""
    assert bool(((found.point >= low) & (found.point <= high)).all()) and found.lower <= found.upper
    at = slopes_at(module, found.point[None])
    torch.testing.assert_close(at[0], found.slopes, rtol=1e-12, atol=1e-12)
    assert float(norms(at, found.norm)) == pytest.approx(found.lower, rel=1e-12)
    generator = torch.Generator().manual_seed(3)
    a, b = low + (high - low) * torch.rand(2, 2000, len(found.point), dtype=F64, generator=generator)
    b = torch.where(torch.arange(2000)[:, None] % 2 == 0, b, a + 1e-3 * (b - a))
    order = 2 if found.norm == 2 else INF
    change = (module(b) - module(a)).detach()
    moved, apart = (torch.linalg.vector_norm(item, order, dim=1) for item in (change, b - a))
    assert float((moved / apart).max()) <= found.upper * (1 + 1e-9)


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Boxes are divided in few dimensions too."""
    monkeypatch.setattr(searching, "DIMENSIONS", 0)
    yield


@pytest.mark.parametrize("norm", [2, INF])
@pytest.mark.parametrize("features", [1, 2, 3])
def test_regions_and_boxes_find_the_same(features: int, norm: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = mlp(features, 7, 6, 2, seed=features)
    net = captured(module, features)
    found = lipschitz(net, (-1, 1), norm)
    assert found.exact and found.lower == found.upper and found.regions > 1 and found.boxes == 0
    check(found, module)
    # by autograd at a point of every region
    every = norms(slopes_at(module, ma.partition.regions(net, (-1, 1)).points), norm)
    assert found.lower == pytest.approx(float(every.max()), rel=1e-12)
    monkeypatch.setattr(searching, "DIMENSIONS", 0)
    again = lipschitz(net, (-1, 1), norm)
    assert again.exact and again.boxes > 0 and again.lower == pytest.approx(found.lower, rel=1e-9)
    check(again, module)


FUNCTIONS = {
    "largest": lambda x: x[:, :6].unflatten(1, (-1, 3)).amax(2),
    "smallest": lambda x: x[:, :6].unflatten(1, (-1, 3)).amin(2),
    "clamped": lambda x: x[:, :4].clamp(-0.3, 0.4).abs(),
    "leaky": lambda x: nn.functional.leaky_relu(x[:, :5], 0.2),
    "residual": lambda x: (x[:, :4] + x[:, :4].relu().flip(1)).abs(),
    "larger": lambda x: torch.maximum(x[:, :3], x[:, 3:]),
    "smaller": lambda x: torch.minimum(x[:, :3, None], x[:, None, 3:]).flatten(1),
    "between": lambda x: x[:, :4].clamp(-0.2 * torch.ones(4, dtype=F64), torch.arange(4, dtype=F64) / 4),
    "masked": lambda x: x.masked_fill(torch.arange(6) % 3 == 1, -INF).unflatten(1, (-1, 3)).amax(2),
    "sorted": lambda x: x[:, :3].sort(1).values,
    "median": lambda x: x.unflatten(1, (-1, 3)).median(2).values,
    "running": lambda x: x[:, :4].cummax(1).values,
    "pooled": lambda x: nn.functional.max_pool1d(x[:, None, :6].relu(), 2)[:, 0],
}


SORTING = ("sorted", "running", "median")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_operator_with_known_slopes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    module = Of(FUNCTIONS[name], nn.Linear(2, 6, dtype=F64))
    module = nn.Sequential(module, nn.LazyLinear(2, dtype=F64))
    module(torch.zeros(1, 2, dtype=F64))
    net = captured(module, 2)
    found = lipschitz(net, (-1, 1), time_limit=0.3 if name == "median" else 20)
    monkeypatch.setattr(searching, "DIMENSIONS", 0)
    again = lipschitz(net, (-1, 1), time_limit=0.3 if name in SORTING else 20)
    assert again.lower == pytest.approx(found.lower, rel=1e-9)
    if name in SORTING:  # the interval need not close: units that share entries are told apart one by one
        assert found.lower * (1 - 1e-9) <= again.upper <= 2 * found.lower
    else:
        assert found.regions > 0 and again.upper == pytest.approx(found.lower, rel=1e-6)
    check(again, module)


def _boxes(bounds: SlopeBounds, features: int, random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Twenty boxes of all sizes, with every piece of every unit."""
    centers, sizes = random.uniform(-1, 1, (20, features)), 10.0 ** random.uniform(-3, 0, (20, 1))
    last = np.broadcast_to(bounds.pieces - 1, (20, len(bounds.pieces))).astype(np.int64)
    return centers, sizes * random.random((20, features)), np.zeros_like(last), last


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bounds_hold_all_slopes_of_a_box(name: str) -> None:
    """Of random boxes of a network with the operator twice: autograd at random points in each."""
    torch.manual_seed(1)
    layers = [Of(FUNCTIONS[name], nn.Linear(5, 6, dtype=F64)), nn.LazyLinear(6, dtype=F64)]
    module = nn.Sequential(*layers, Of(lambda x: torch.cat([FUNCTIONS[name](x), x], 1)), nn.LazyLinear(3, dtype=F64))
    module(torch.zeros(1, 5, dtype=F64))
    space, _, _ = box_of(captured(module, 5), (-1, 1), None, None, None)
    bounds, random = SlopeBounds(space, np.eye(3), 2.0), np.random.default_rng(1)
    centers, halves, first, last = _boxes(bounds, 5, random)
    found = bounds(centers, halves, first, last)
    most = {2.0: found.most, INF: SlopeBounds(space, np.eye(3), INF)(centers, halves, first, last).most}
    for box in range(20):
        places = torch.as_tensor(centers[box] + halves[box] * random.uniform(-1, 1, (5, 5)))
        slopes = slopes_at(module, places)
        for norm, bound in most.items():
            steep = norms(slopes, norm)
            assert float(steep.max()) <= bound[box] * (1 + 1e-12)
            if found.open[box] == 0:
                assert bound[box] == pytest.approx(float(steep[0]), rel=1e-6, abs=1e-9)
        low, high = found.slopes.low[box] - 1e-12, found.slopes.high[box] + 1e-12
        assert (slopes.numpy() >= low).all() and (slopes.numpy() <= high).all()
    assert found.possible.all() and found.open.min() < found.open.max()


@pytest.mark.parametrize("kind", ["compares", "selects"])
def test_bounds_hold_where_pieces_are_ruled_out(kind: str) -> None:
    """What is left of a box need not hold the way from its center to all of its points."""
    checked = 0
    for seed in range(2):
        torch.manual_seed(seed)
        operator = nn.ReLU() if kind == "compares" else Of(lambda x: nn.functional.max_pool1d(x[:, None], 2)[:, 0])
        widths = (3, 6, 6, 6, 2) if kind == "compares" else (3, 8, 8, 8, 2)
        layers: list[nn.Module] = []
        for a, b in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(a if kind == "compares" or a == 3 else a // 2, b, dtype=F64), operator]
        module = nn.Sequential(*layers[:-1])
        space, _, _ = box_of(captured(module, 3), (-1, 1), None, None, None)
        bounds, random = SlopeBounds(space, np.eye(2), 2.0), np.random.default_rng(seed)
        for center, half, first, last in zip(*(item[:10] for item in _boxes(bounds, 3, random)), strict=True):
            points = center + 10 * half * random.uniform(-1, 1, (300, 3))
            codes, first, last = space.codes(points), first.copy(), last.copy()
            units = random.choice(len(first), 4, replace=False)
            first[units] = last[units] = codes[0, units]
            left = points[((codes >= first) & (codes <= last)).all(1)][:10]
            found = bounds(center[None], 10 * half[None], first[None], last[None])
            slopes = slopes_at(module, torch.as_tensor(left)).numpy()
            assert (slopes >= found.slopes.low - 1e-9).all() and (slopes <= found.slopes.high + 1e-9).all()
            assert np.linalg.norm(slopes, 2, (1, 2)).max() <= found.most[0] * (1 + 1e-9) and found.possible[0]
            checked += len(left)
    assert checked > 100


def test_the_center_says_nothing_of_pieces_that_it_is_not_on() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).double()
    for parameter, values in zip(module.parameters(), ([[1, 0], [0, 1]], [0, 2], [[-1, -1]], [2.05]), strict=True):
        parameter.data = torch.tensor(values, dtype=F64)
    space, _, _ = box_of(captured(module, 2), (-1, 1), None, None, None)
    # The first unit is off: it is 0 at points that are left, but 0.5 at the center, where the last one is off.
    first, last = np.array([[0, 1, 0]]), np.array([[0, 1, 1]])
    found = SlopeBounds(space, np.eye(1), 2.0)(np.array([[0.5, 0.0]]), np.array([[1.0, 0.1]]), first, last)
    (slopes,) = slopes_at(module, torch.tensor([[-0.1, 0.0]], dtype=F64)).numpy()
    assert slopes.tolist() == [[0, -1]] and (found.slopes.low[0] <= slopes).all() and found.most[0] >= 1


def _skip() -> nn.Module:
    """Leaky and clipped units, and values that pass by them."""
    inner = Of(lambda x: torch.cat([nn.functional.leaky_relu(x, -0.3), x[:, :2]], 1), nn.Linear(5, 6, dtype=F64))
    outer = Of(lambda x: torch.cat([x.clamp(-0.2, 0.3), x], 1), nn.Linear(8, 4, dtype=F64))
    return nn.Sequential(inner, outer, Of(torch.relu, nn.Linear(8, 6, dtype=F64)), nn.Linear(6, 3, dtype=F64))


@pytest.mark.parametrize("norm", [2.0, INF])
def test_norms_hold_for_all_slopes_of_units_that_are_open(norm: float) -> None:
    torch.manual_seed(2)
    module, random = _skip(), np.random.default_rng(2)
    space, _, _ = box_of(captured(module, 5), (-1, 1), None, None, None)
    bounds = SlopeBounds(space, np.eye(3), norm)
    centers, halves, first, last = _boxes(bounds, 5, random)
    found = bounds(centers, halves, first, last)
    for box in range(20):
        places = torch.as_tensor(centers[box] + halves[box] * random.uniform(-1, 1, (8, 5)))
        steep = norms(slopes_at(module, places), norm)
        assert float(steep.max()) <= found.most[box] * (1 + 1e-12)
        if found.open[box] == 0:
            assert found.most[box] == pytest.approx(float(steep[0]), rel=1e-9)
    assert found.open.min() == 0 < found.open.max()


@pytest.mark.parametrize("norm", [2.0, INF])
def test_norms_hold_for_diagonal_matrices_and_not_without_their_radii(norm: float) -> None:
    random = np.random.default_rng(0)
    first, second, third = (random.normal(size=shape) for shape in ((6, 4), (5, 12), (3, 10)))
    middles, radii = random.uniform(-1, 1, (2, 1, 6)), random.uniform(0, 1, (2, 1, 6))

    def bound(share: float) -> float:
        # Values after an operator are its units, and all that was there before.
        stages = [
            Stage(np.arange(n)[:, None], middle[:, :n, None], share * radius[:, :n, None, None], matrix)
            for n, middle, radius, matrix in zip((6, 5), middles, radii, (second, third), strict=True)
        ]
        return float(norm_bounds(first, stages, norm)[0])

    steepest = 0.0
    for signs in random.choice([-1, 1], (2000, 2, 6)):
        a, b = (middle[0] + sign * radius[0] for middle, sign, radius in zip(middles, signs, radii, strict=True))
        inner = second @ np.concatenate([a[:, None] * first, first])
        outer = third @ np.concatenate([b[:5, None] * inner, inner])
        steepest = max(steepest, float(np.linalg.norm(outer, 2 if norm == 2 else np.inf)))
    assert bound(0.1) < steepest <= bound(1.0) < 3 * steepest


def test_pictures_and_tables() -> None:
    flat = lipschitz(captured(mlp(2, 6, 1), 2), (-1, 1))
    assert len(flat.norms) == flat.regions and flat.norms.max() == flat.lower
    assert len(flat.plot().patches) == flat.regions
    solid = lipschitz(captured(mlp(3, 6, 1), 3), (-1, 1))
    assert sum(bar.get_height() for bar in solid.plot().patches if isinstance(bar, Rectangle)) == solid.regions
    wide = lipschitz(captured(mlp(12, 8, 8, 2), 12), (-1, 1), time_limit=0.3)
    assert len(wide.plot().lines) == 2 and (np.diff(wide.history[:, 2]) <= 1e-12).all()
    assert "exact" in flat._repr_html_() and "both ends agree" in flat._repr_html_()
    assert "times as large" in wide._repr_html_() and len(wide.norms) == 0


def test_known_constants() -> None:
    matrix = torch.tensor([[3.0, 0.0, 4.0], [0.0, -2.0, 1.0]], dtype=F64)
    linear = nn.Linear(3, 2, dtype=F64)
    with torch.no_grad():
        linear.weight.copy_(matrix)
    net = captured(nn.Sequential(linear), 3)
    assert lipschitz(net, (-1, 1)).lower == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)))
    assert lipschitz(net, (-1, 1), INF).lower == 7
    assert lipschitz(net, (-1, 1), INF, outputs=1).lower == 3
    assert lipschitz(net, (-1, 1), INF, outputs=(0, 1)).lower == 8
    assert lipschitz(net, (-1, 1), outputs=(1, 0)).slopes.tolist() == [[-3.0, -2.0, -3.0]]
    total = captured(Of(lambda x: x.abs().sum(1, keepdim=True)), 4)
    assert lipschitz(total, (-1, 1)).lower == pytest.approx(2) and lipschitz(total, (-1, 1), INF).lower == 4
    # steep only beyond the box
    beyond = captured(Of(lambda x: 5 * (x - 2).relu() + x), 1)
    assert lipschitz(beyond, (-1, 1)).lower == 1 and lipschitz(beyond, (-1, 2.5)).lower == 6


@pytest.mark.parametrize("dimensions", [0, 8])
def test_slopes_of_no_region_are_not_found(dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "DIMENSIONS", dimensions)
    # At zero, the center, each takes its first side: 1 and 0, which do not cancel as those of all regions do.
    tied = captured(Of(lambda x: torch.maximum(x, 0 * x) - torch.maximum(0 * x, x) + 0.5 * x), 1)
    assert lipschitz(tied, (-1, 1), time_limit=0.2).lower == 0.5
    # On the rim the first side is the one beyond the box.
    rim = captured(Of(lambda x: torch.minimum(x, 0 * x) + 0.5 * x), 1)
    assert lipschitz(rim, (0, 1), time_limit=0.2).lower == 0.5


@pytest.mark.parametrize("whole", [False, True])
def test_a_constant_network(whole: bool, boxes: None) -> None:
    module = mlp(2, 3, 1)
    with torch.no_grad():
        for parameter in module[2].parameters():
            parameter.zero_()
    found = lipschitz(captured(module, 2), (-1, 1))
    assert found.lower == 0 and found.upper <= 1e-12 and found.exact


def test_degenerate_weights_by_two_algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    module = whole_numbers(mlp(2, 5, 5, 1), 11)
    net = captured(module, 2)
    found = lipschitz(net, (-1, 1))
    check(found, module)
    monkeypatch.setattr(searching, "DIMENSIONS", 0)
    again = lipschitz(net, (-1, 1), time_limit=1)
    assert again.lower <= found.lower * (1 + 1e-9) and found.lower <= again.upper * (1 + 1e-9)


def test_an_interval_when_time_is_up() -> None:
    module = mlp(12, 16, 16, 3)
    found = lipschitz(captured(module, 12), (-1, 1), time_limit=0.3)
    assert not found.exact and 0 < found.lower < found.upper < INF and found.regions == 0
    check(found, module)
    assert repr(found).startswith("Lipschitz: 0.") and " to " in repr(found)
    assert found.to_dict()["upper"] == found.upper and found.codes.region_ids().shape[0] == 1


def test_too_many_regions_leave_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    module = mlp(3, 8, 8, 1)
    monkeypatch.setattr(searching, "REGIONS", 5)
    found = lipschitz(captured(module, 3), (-1, 1), time_limit=1)
    assert found.regions == 0 and found.boxes > 0
    check(found, module)


def test_what_was_found_survives_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = SlopeBounds.__call__
    calls: list[int] = []

    def interrupted(self: SlopeBounds, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(SlopeBounds, "__call__", interrupted)
    module = mlp(10, 12, 12, 2)
    found = lipschitz(captured(module, 10), (-1, 1))
    assert len(calls) == 5 and found.upper < INF
    check(found, module)


def test_bounds_that_are_too_low_are_noticed(monkeypatch: pytest.MonkeyPatch, boxes: None) -> None:
    whole = searching._Search._most
    monkeypatch.setattr(searching._Search, "_most", lambda self, found: whole(self, found) / 4)
    monkeypatch.setattr(searching._Search, "look", lambda self, places: None)
    module = mlp(2, 8, 8, 1)
    with pytest.raises(AssertionError):
        check(lipschitz(captured(module, 2), (-1, 1), time_limit=0.5), module)


def test_bad_arguments() -> None:
    net = captured(mlp(2, 4, 3), 2)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"norm": 1}, "norm: 1 is neither 2 nor infinity"),
        ({"time_limit": 0.0}, "time_limit: expected seconds above 0"),
        ({"norm": True}, "norm: True is neither 2 nor infinity"),
        ({"outputs": 3}, "outputs: expected numbers from 0 to 2"),
        ({"outputs": (1, 1)}, "outputs: expected numbers from 0 to 2, each once"),
    ]
    for wrong, words in cases:
        with pytest.raises(ma.BadInput, match=words):
            lipschitz(net, (-1, 1), **wrong)
    huge = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    for parameter, size in zip(huge.parameters(), (1e200, 0, 1e108, 0), strict=True):
        parameter.data.fill_(size)
    for norm in (2, INF):
        with pytest.raises(ma.BadInput, match="net: the norm of its slopes overflows"):
            lipschitz(captured(huge, 2), (0, 0.1), norm)
    with pytest.raises(ma.BadInput, match="bounds: expected numbers"):
        lipschitz(net, (1j, 2))
    with pytest.raises(ma.BadInput, match="bounds: every lower bound must be finite"):
        lipschitz(net, (-1, INF))
    with pytest.raises(ma.BadInput, match="net: it jumps"):
        lipschitz(captured(Of(lambda x: nn.functional.hardshrink(x)), 2), (-1, 1))


def test_a_network_whose_slopes_are_known_in_no_box_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    net = captured(Of(lambda x: torch.maximum(x[:, :5], x[:, 5:])), 10)
    assert lipschitz(net, (-1, 1)).upper == pytest.approx(1, rel=1e-6)
    # An operator of which not every unit is one of what it compares.
    monkeypatch.setattr(Selecting, "_at", lambda self, row: np.zeros(5))
    with pytest.raises(ma.NotPiecewiseAffine, match="(?s)not each one of the entries.*at most eight inputs"):
        lipschitz(net, (-1, 1))
