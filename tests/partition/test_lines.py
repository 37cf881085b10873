"""Partitions of lines: hand-made networks, the zoo, random networks, degenerate segments, bad input."""

from __future__ import annotations

import signal
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._partition import LinePartition, line
from maxaffine._partition.lines.walk import Walk
from tests.partition.lines import between, bisected, codes_at, ends
from tests.random_networks import RandomCase, random_cases
from tests.zoo import ZOO, Case
from tests.zoo.captured import captured
from tests.zoo.networks import Net

F64 = torch.float64
NAMES = {
    "residual", "dense", "reused_layer", "two_inputs", "siamese", "unused_input", "tuple_output", "dict_output",
    "mixer", "arithmetic", "hand_recurrent", "recurrent", "batch_norm_1d", "where_on_comparison",
    "gate_by_comparison", "gather_by_own_argmax", "masked_fill",
}  # fmt: skip
CASES = [case for place, case in enumerate(ZOO) if case.name in NAMES or place % 12 == 0]


def point(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=F64)


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=F64))
        layer.bias.copy_(torch.tensor(bias, dtype=F64))
    return layer


def assert_exact(found: LinePartition, net: ma.SplineNetwork, module: nn.Module, x0, x1, samples: int = 120) -> None:
    """Outputs of the untouched module, codes at random places, and bisected changes of codes."""
    assert found.complete and found.breakpoints[0] == 0 and found.breakpoints[-1] == 1
    assert (found.lengths > 0).all()
    found.verify(module)
    operators = list(found.crossings.operators)
    t = torch.rand(samples, dtype=F64)
    inside = (t[:, None] - found.breakpoints).abs().amin(1) > 1e-9
    codes = codes_at(net, between(x0, x1, t), operators)
    pieces = codes_at(net, found.points(found.middles), operators)
    assert torch.equal(codes[inside], pieces[found.locate(t)][inside])
    changed = bisected(net, x0, x1, operators, samples)
    if len(changed):
        assert (changed[:, None] - found.breakpoints).abs().amin(1).max() < 1e-9
    # every breakpoint is one: the codes behind it differ, in exactly the units that it names
    differ = pieces[1:] != pieces[:-1]
    assert differ.any(1).all()
    assert torch.equal(differ.sum(1), torch.bincount(found.crossings.breakpoint, minlength=found.pieces)[1:])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_zoo(case: Case) -> None:
    net = captured(case)
    x0, x1 = ends(case.inputs(2))
    assert_exact(line(net, x0, x1, output=0), net, case.build(), x0, x1)


@settings(max_examples=5)
@given(case=random_cases(8), seed=st.integers(0, 1000))
def test_random_networks(case: RandomCase, seed: int) -> None:
    a, b = case.inputs(2, seed).split(1)
    net = ma.capture(case.network, a)
    if net.graph.values[net.graph.outputs[0]].batch is None:
        return
    found = line(net, a, b, output=0)
    found.verify(case.network)
    t = torch.rand(50, dtype=F64)
    operators = list(found.crossings.operators)
    inside = (t[:, None] - found.breakpoints).abs().amin(1) > 1e-7
    pieces = codes_at(net, found.points(found.middles), operators)[found.locate(t)]
    codes = codes_at(net, between((a,), (b,), t)[0], operators)
    assert torch.equal(codes[inside], pieces[inside])


def test_small_blocks_give_the_same() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3)).double()
    a, b = (3 * torch.randn(2, 6, dtype=F64)).split(1)
    net = ma.capture(module, a)
    whole, tiny = line(net, a, b), line(net, a, b, memory=1)
    assert whole.pieces > 40
    assert_close(whole.breakpoints, tiny.breakpoints, rtol=0, atol=1e-12)
    assert torch.equal(whole.crossings.unit, tiny.crossings.unit)
    assert torch.equal(whole.crossings.operator, tiny.crossings.operator)
    assert_close(whole.ends, tiny.ends)


def test_float32_network_is_followed_in_float64() -> None:
    module = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 3))
    a, b = (3 * torch.randn(2, 6)).split(1)
    found = line(ma.capture(module, a), a, b)
    assert found.verify(module).dtype == torch.float32
    double = line(ma.capture(module.double(), a.double()), a.double(), b.double())
    assert_close(found.breakpoints, double.breakpoints, rtol=0, atol=1e-12)


def test_triangle_wave() -> None:
    """Each layer folds [0, 1] in two: 2^layers pieces of equal length."""

    class Tent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(6):
                x = 2 * torch.relu(x) - 4 * torch.relu(x - 0.5)
            return x

    found = line(ma.capture(Tent(), point(0.3)), point(0.0), point(1.0))
    assert found.pieces == 64
    assert_close(found.breakpoints, torch.linspace(0, 1, 65, dtype=F64), rtol=0, atol=1e-14)
    expected = torch.tensor([64.0, -64.0], dtype=F64).repeat(32)[:, None]
    assert_close(found.slopes, expected)
    assert_close(found.offsets + found.slopes * found.middles[:, None], torch.full((64, 1), 0.5, dtype=F64))


def test_max_pool_envelope() -> None:
    """The maximum of tangents of a parabola: every tangent wins once."""
    places = torch.linspace(0.05, 0.95, 10, dtype=F64)
    layer = linear((2 * places)[:, None].tolist(), (-(places**2)).tolist())

    class Largest(nn.Module):
        def __init__(self, pool: bool) -> None:
            super().__init__()
            self.layer, self.pool = layer, pool

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return nn.functional.max_pool1d(y[:, None], 10)[:, 0] if self.pool else y.amax(1, keepdim=True)

    for pool in (True, False):
        found = line(ma.capture(Largest(pool), point(0.3)), point(0.0), point(1.0))
        assert_close(found.breakpoints[1:-1], (places[1:] + places[:-1]) / 2)
        assert_close(found.slopes[:, 0], 2 * places)


def test_jumps_have_two_limits() -> None:
    net = ma.capture(nn.Hardshrink(0.5), point(0.0))
    found = line(net, point(-1.0), point(1.0))
    assert_close(found.breakpoints, torch.tensor([0, 0.25, 0.75, 1], dtype=F64))
    assert_close(found.starts[:, 0], torch.tensor([-1, 0, 0.5], dtype=F64))
    assert_close(found.ends[:, 0], torch.tensor([-0.5, 0, 1], dtype=F64))


def test_zero_length_segment_is_one_piece() -> None:
    net = ma.capture(nn.Sequential(nn.Linear(2, 9), nn.ReLU()).double(), point(1, 2))
    found = line(net, point(1, 2), point(1, 2))
    assert found.pieces == 1 and len(found.crossings) == 0
    assert_close(found.slopes, torch.zeros(1, 9, dtype=F64))


def test_segment_within_a_boundary() -> None:
    """Unit 0 is zero all along; the one behind it too; unit 1 changes in the middle."""
    first = linear([[0.0, 1.0], [1.0, 0.0]], [0.0, 0.0])
    second = linear([[1.0, 0.0], [1.0, 1.0]], [0.0, -0.25])
    module = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    found = line(ma.capture(module, point(1, 2)), point(-1, 0), point(1, 0))
    assert_close(found.breakpoints, torch.tensor([0, 0.5, 0.625, 1], dtype=F64))
    assert [found.crossings.at(n) for n in range(1, 3)] == [[("1", 1)], [("3", 1)]]
    found.verify(module)


def test_units_that_coincide_share_a_breakpoint() -> None:
    weight = [[1.0], [3.0], [-7.0], [1 / 3]]
    module = nn.Sequential(linear(weight, [-0.3 * row[0] for row in weight]), nn.ReLU())
    found = line(ma.capture(module, point(0.0)), point(0.0), point(1.0))
    assert found.pieces == 2
    assert found.crossings.at(1) == [("1", 0), ("1", 1), ("1", 2), ("1", 3)]
    twice = nn.Sequential(nn.ReLU(), nn.ReLU(), linear([[1.0]], [0.0]), nn.ReLU())
    found = line(ma.capture(twice, point(0.0)), point(-1.0), point(1.0))
    assert found.pieces == 2 and [name for name, _ in found.crossings.at(1)] == ["0", "1", "3"]


def test_boundary_at_an_end_of_the_segment() -> None:
    found = line(ma.capture(nn.ReLU(), point(0.0)), point(0.0), point(1.0))
    assert found.pieces == 1
    assert_close(found.slopes, torch.ones(1, 1, dtype=F64))


def test_decisions_by_hand() -> None:
    layer = linear([[1.0], [-1.0], [0.0]], [0.0, 1.0, 0.7])
    found = line(ma.capture(layer, point(0.0)), point(0.0), point(1.0)).decisions()
    assert_close(found.t, torch.tensor([0.3, 0.7], dtype=F64))
    assert found.classes.tolist() == [1, 2, 0]
    logit = nn.Sequential(nn.ReLU(), linear([[1.0]], [-0.5]))
    single = line(ma.capture(logit, point(0.0), task="classes"), point(-1.0), point(1.0))
    assert_close(single.decisions().t, torch.tensor([0.75], dtype=F64))
    assert single.decisions(threshold=-0.6).classes.tolist() == [1]


def test_level_sets_by_hand_and_against_the_module() -> None:
    tent = nn.Sequential(linear([[1.0], [1.0]], [0.0, -0.5]), nn.ReLU(), linear([[1.0, -2.0], [-1.0, 1.0]], [0.0, 0.0]))
    found = line(ma.capture(tent, point(0.0), task="values"), point(0.0), point(1.0))
    assert_close(found.level_set(0.25), torch.tensor([0.25, 0.75], dtype=F64))
    assert_close(found.level_set(0.5), torch.tensor([0.5], dtype=F64))  # its top, which it reaches without crossing it
    assert_close(found.level_set(), torch.tensor([0.0, 1.0], dtype=F64))
    assert_close(found.level_set(-0.5, output=1), torch.tensor([0.5, 1.0], dtype=F64))  # flat there: the ends
    assert len(found.level_set(0.6)) == 0
    with pytest.raises(ma.BadInput, match="output: numbers run from 0 to 1, got 2"):
        found.level_set(output=2)
    module = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)).double()
    a, b = (8 * torch.randn(2, 5, dtype=F64)).split(1)
    t = torch.linspace(0, 1, 5001, dtype=F64)
    values = module(torch.lerp(a, b, t[:, None])).detach()[:, 0]
    level = float(values.median())
    places = line(ma.capture(module, a), a, b).level_set(level)
    changes = torch.nonzero((values[1:] > level) != (values[:-1] > level))[:, 0]
    assert len(places) >= len(changes) > 0
    assert_close(module(torch.lerp(a, b, places[:, None]))[:, 0], torch.full_like(places, level))
    for change in changes.tolist():
        assert ((t[change] <= places) & (places <= t[change + 1])).any()


def test_decisions_against_bisection() -> None:
    module = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 6)).double()
    a, b = (8 * torch.randn(2, 5, dtype=F64)).split(1)
    found = line(ma.capture(module, a), a, b).decisions()
    t = torch.linspace(0, 1, 5001, dtype=F64)
    classes = module(torch.lerp(a, b, t[:, None])).argmax(1)
    changes = torch.nonzero(classes[1:] != classes[:-1])[:, 0]
    assert len(found) == len(changes) > 0
    assert ((t[changes] <= found.t) & (found.t <= t[changes + 1])).all()
    assert torch.equal(torch.cat([classes[:1], classes[1:][changes]]), found.classes)


def test_parts_of_a_network_and_units() -> None:
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    a, b = (4 * torch.randn(2, 3, dtype=F64)).split(1)
    net = ma.capture(module, a)
    whole = line(net, a, b)
    chosen = line(net, a, b, outputs=[2, 0])
    assert_close(chosen.starts, whole.starts[:, [2, 0]])
    assert_close(chosen.affine_map([0]).slopes, whole.affine_map([0], outputs=[2, 0]).slopes)
    early = line(net, a, b, until="1")
    assert early.crossings.operators == ("1",) and early.pieces <= whole.pieces
    with pytest.raises(ma.BadInput, match="until"):
        early.verify(module)


def test_verify_catches_another_module() -> None:
    first = nn.Linear(3, 8)
    module = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 2)).double()
    a, b = torch.randn(2, 3, dtype=F64).split(1)
    found = line(ma.capture(module, a), a, b)
    with torch.no_grad():
        first.bias.add_(1e-6)
    assert not found.verify(module, raises=False).exact
    with pytest.raises(ma.ExactnessError, match="capture it"):
        found.verify(module)


def test_unfinished_partition_says_so() -> None:
    module = nn.Sequential(nn.Linear(3, 60), nn.ReLU(), nn.Linear(60, 2)).double()
    a, b = (9 * torch.randn(2, 3, dtype=F64)).split(1)
    net = ma.capture(module, a)
    part, whole = line(net, a, b, memory=1, max_pieces=4), line(net, a, b)
    assert not part.complete and part.pieces < whole.pieces and "unfinished" in repr(part)
    assert_close(part.breakpoints[:-1], whole.breakpoints[: part.pieces])
    with pytest.raises(ma.BadInput, match="covers 0 to"):
        part.value([1.0])


def test_interrupt_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Linear(3, 60), nn.ReLU(), nn.Linear(60, 2)).double()
    a, b = (9 * torch.randn(2, 3, dtype=F64)).split(1)
    net = ma.capture(module, a)
    finished, count = Walk._finish, []

    def pressed(self, strip):
        count.append(1)
        if len(count) == 3:
            signal.raise_signal(signal.SIGINT)
        return finished(self, strip)

    monkeypatch.setattr(Walk, "_finish", pressed)
    with pytest.warns(UserWarning, match="interrupted"):
        found = line(net, a, b, memory=1)
    assert 0 < found.pieces <= 4 and not found.complete


class Foreign(ma.operators.Operator):
    """An operator of a user's own: a relu that says nothing of its knot."""

    def __init__(self, inner: ma.operators.Operator) -> None:
        self.inner = inner

    @property
    def traits(self):
        return self.inner.traits

    def __call__(self, *inputs):
        return self.inner(*inputs)

    def local(self, inputs, value):
        return self.inner.local(inputs, value)


def test_own_operator_is_refused_by_name() -> None:
    net = ma.capture(nn.ReLU(), point(0.0))
    (step,) = net.graph.steps
    graph = replace(net.graph, steps=(replace(step, operator=Foreign(step.operator)),))
    foreign = ma.SplineNetwork(graph, net.inputs, net.output_spec, net.places)
    with pytest.raises(ma.NotPiecewiseAffine, match="relu.*Foreign"):
        line(foreign, point(-1.0), point(1.0))


BAD = [
    ({"x0": torch.zeros(2, 2, dtype=F64)}, "x0: it holds 2 samples"),
    ({"x1": torch.zeros(1, 3, dtype=F64)}, "x1: .*shape"),
    ({"x1": torch.full((1, 2), float("nan"), dtype=F64)}, "NaN"),
    ({"tolerance": 0.0}, "tolerance"),
    ({"max_pieces": 0}, "max_pieces"),
    ({"outputs": [7]}, "outputs"),
    ({"until": "nowhere"}, "until"),
    ({"output": 4}, "output"),
]


@pytest.mark.parametrize(("changed", "message"), BAD, ids=[next(iter(item[0])) + str(n) for n, item in enumerate(BAD)])
def test_bad_input(changed: dict, message: str) -> None:
    net = ma.capture(nn.ReLU(), point(0, 0))
    arguments = {"net": net, "x0": point(0, 0), "x1": point(1, 1)} | changed
    with pytest.raises(ma.BadInput, match=message):
        line(**arguments)


def test_integer_inputs_stay_put() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 3)

        def forward(self, x: Tensor, place: Tensor) -> Tensor:
            return torch.relu(x + self.table(place))

    module = Embedded().double()
    try:
        net = ma.capture(module, (torch.randn(2, 3, dtype=F64), torch.tensor([1, 2])))
    except ma.MaxAffineError:
        pytest.xfail("integer inputs are not captured")
    a, b = (3 * torch.randn(2, 3, dtype=F64)).split(1)
    found = line(net, (a, torch.tensor([1])), (b, torch.tensor([1])))
    found.verify(module)
    with pytest.raises(ma.BadInput, match="cannot move"):
        line(net, (a, torch.tensor([1])), (b, torch.tensor([2])))


def test_progress_is_shown_on_request(capfd: pytest.CaptureFixture) -> None:
    net = ma.capture(nn.ReLU(), point(0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line(net, point(0, 0), point(1, 1), progress=True)
    assert "line" in capfd.readouterr().err


TIED = {
    "amax": lambda a, b: torch.stack([a, b], 1).amax(1),
    "amin": lambda a, b: torch.stack([a, b], 1).amin(1),
    "maximum": lambda a, b: torch.maximum(a, b),
    "max_pool": lambda a, b: nn.functional.max_pool2d(torch.stack([a, b], 1)[:, None], (2, 1)).flatten(1),
}


class Tied(nn.Module):
    """The larger of two numbers that are one but for rounding, beside ReLUs whose pieces end where they do."""

    def __init__(self, name: str, apart: float) -> None:
        super().__init__()
        self.choose, self.apart = TIED[name], apart

    def forward(self, x: Tensor) -> Tensor:
        largest = self.choose(x * 0.1 * 3, x * 0.3 + self.apart)
        return torch.cat([largest, nn.functional.relu(x - torch.linspace(0.05, 2.95, 30, dtype=F64))], 1)


@pytest.mark.parametrize("name", TIED)
def test_ties_all_over_are_no_changes(name: str) -> None:
    """Products x * 0.1 * 3 and x * 0.3 differ in their last bits, this way here and that way there."""
    x = torch.linspace(0, 3, 100, dtype=F64)[:, None]
    net = ma.capture(Tied(name, 0.0), point(1.0))
    operator, given = next(
        (s.operator, given) for s, given, *_ in net.graph.walk([x]) if any(name in r.kind for r in s.records)
    )
    assert len(operator.codes(given, operator(*given)).unique()) == 2  # type: ignore[union-attr]
    codes = operator.boundaries().codes(given, 1e-12)  # type: ignore[union-attr]
    assert codes is not None and len(codes.unique()) == 1
    found = line(net, point(0.0), point(3.0))
    assert found.pieces == 31 and sum(found.crossings.per_operator.values()) == 30


@pytest.mark.parametrize("name", TIED)
def test_a_change_by_little_is_one(name: str) -> None:
    """Not equal all over: at one place one overtakes the other, by a slope of a millionth."""
    module = Tied(name, 0.0)
    module.forward = lambda x: module.choose(x * 0.3, x * (0.3 + 1e-6) - 1e-6)  # type: ignore[method-assign]
    found = line(ma.capture(module, point(1.0)), point(0.0), point(3.0))
    assert_close(found.breakpoints, torch.tensor([0, 1 / 3, 1], dtype=F64), rtol=0, atol=1e-8)


def test_masked_scores_along_a_line() -> None:
    """Infinite all along, they are what they are; another mask is not exact."""
    mask = torch.tensor([True, False, False])
    torch.manual_seed(0)
    module = Net(lambda m, x: m.a(x).relu().masked_fill(m.mask, -torch.inf), a=nn.Linear(4, 3), mask=mask).double()
    x0, x1 = torch.randn(2, 1, 4, dtype=torch.float64) * 3
    found = line(ma.capture(module, x0), x0, x1)
    places = torch.linspace(0, 1, 7, dtype=torch.float64)
    points = torch.lerp(x0, x1, places[:, None])
    torch.testing.assert_close(found.value(places), module(points), rtol=0.0, atol=1e-12)
    assert found.verify(module).exact
    mask[1] = True
    assert not found.verify(module, raises=False).exact
