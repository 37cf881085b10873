"""Lines along which few units bend: only those are kept at every vertex, and the result is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine._graph import Columns, Convolution, MatrixProduct, fold
from maxaffine._graph.linear import ConvolutionMap
from maxaffine._partition import line
from maxaffine._partition.lines import partition, track, walk
from maxaffine._partition.lines.bending import Picks, full_matrix
from maxaffine._partition.lines.strip import Bow, Course, Strip
from tests.partition.test_lines import assert_exact
from tests.zoo.networks import Net

F64 = torch.float64
CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "dilation": (2, 1), "padding": (2, 0), "groups": 2},
    {"kernel_size": 3, "groups": 4, "stride": 2},
]


def _matrix(columns: Columns | None, count: int, outputs: int) -> Tensor:
    assert columns is not None
    assert len(torch.stack([columns.column, columns.row]).unique(dim=1)[0]) == len(columns.row)  # none twice
    found = torch.zeros(count, outputs, dtype=F64)
    found[columns.column, columns.row] = columns.value
    return found


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("arguments", CONVOLUTIONS, ids=str)
def test_columns_of_a_convolution(arguments: dict[str, Any], transposed: bool) -> None:
    layer = (nn.ConvTranspose2d if transposed else nn.Conv2d)(4, 8, bias=False, **arguments).double()
    x, units = torch.randn(1, 4, 7, 6, dtype=F64), torch.tensor([0, 5, 50, 100, 167])
    net = ma.capture(layer, x)
    (operator,) = [step.operator for step in net.graph.steps if isinstance(step.operator, Convolution)]
    unit_vectors = torch.zeros(5, 168, dtype=F64).scatter_(1, units[:, None], 1.0).view(5, 4, 7, 6)
    expected = layer(unit_vectors).detach().flatten(1)
    assert_close(_matrix(operator.local([x], None).columns(units), 5, expected.shape[1]), expected)


def test_a_convolution_of_single_channels_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer, x = nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False).double(), torch.randn(3, 4, 5, 5, dtype=F64)
    net = ma.capture(layer, x[:1])
    (operator,) = [step.operator for step in net.graph.steps if isinstance(step.operator, Convolution)]
    matrix = full_matrix(operator.local([x], None), operator, 100, 200, x.device)
    assert matrix is not None and matrix.shape == (4, 25, 50)
    found = (x.view(3, 4, 25).transpose(0, 1) @ matrix).transpose(0, 1)
    assert_close(found.reshape(3, 8, 5, 5), layer(x).detach())
    # And along a line, where all of its inputs bend, with the batch-norm after it folded in.
    norm = nn.BatchNorm2d(8)
    norm.running_mean, norm.running_var = torch.randn(8), 0.5 + torch.rand(8)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), layer, norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, 3)
    module = nn.Sequential(*layers).double().eval()
    a, b = (4 * torch.randn(2, 1, 7, 7, dtype=F64)).split(1)
    monkeypatch.setattr(track, "SMALL", 0)
    net = ma.capture(module, a)
    assert [len(s.outputs) for s in fold(net.graph).steps if isinstance(s.operator, Convolution)] == [1, 1]
    assert len(fold(net.graph).steps) == len(net.graph.steps) - 1
    line(net, a, b).verify(module)
    assert_exact(line(net, a, b), net, module, (a,), (b,), samples=300)


def test_columns_of_a_matrix_product() -> None:
    layer, units = nn.Linear(4, 3).double(), torch.tensor([1, 4, 11])
    net = ma.capture(layer, torch.zeros(1, 3, 4, dtype=F64))
    (operator,) = [step.operator for step in net.graph.steps if isinstance(step.operator, MatrixProduct)]
    unit_vectors = torch.zeros(3, 12, dtype=F64).scatter_(1, units[:, None], 1.0).view(3, 3, 4)
    expected = (unit_vectors @ layer.weight.mT).detach().flatten(1)
    assert_close(_matrix(operator.local([], None).columns(units), 3, 9), expected)


@pytest.mark.parametrize(
    "layer",
    [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(3), nn.Hardtanh(-0.5, 0.25), nn.Softshrink(0.3)],
    ids=str,
)
def test_an_operator_on_some_entries(layer: nn.Module) -> None:
    x, units = 4 * torch.randn(9, 3, 5, dtype=F64), torch.tensor([0, 4, 7, 14])
    if isinstance(layer, nn.PReLU):
        nn.init.uniform_(layer.weight)
    net = ma.capture(layer.double(), x[:1])
    (step,) = [step for step in net.graph.steps if step.records and step.records[0].pieces > 1]
    function = step.operator.restricted(units, (3, 5))
    assert function is not None
    assert_close(function(x.flatten(1)[:, units]), layer(x).detach().flatten(1)[:, units])


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (lambda x: 3 * x.flatten(1).flip(1), True),
        (lambda x: nn.functional.pad(x, (1, 2))[:, ::2], True),
        (lambda x: x.mean(2), False),
        (lambda x: x[:, :1] + 1e-9 * x[:, 1:2], False),
    ],
)
def test_only_maps_that_move_single_entries_are_recognized(function: Callable[[Tensor], Tensor], known: bool) -> None:
    probes = Picks.probes(12, torch.device("cpu"))
    picks = Picks.recognized(function(probes.view(3, 3, 4)).flatten(1), probes[2])
    assert (picks is not None) == known
    if picks is not None:
        bent = torch.tensor([2, 3, 9])
        x = torch.zeros(5, 12, dtype=F64)
        x[:, bent] = torch.randn(5, 3, dtype=F64)
        bend = picks.bend(bent, 12)
        expected = torch.zeros_like(function(x.view(5, 3, 4)).flatten(1))
        expected[:, bend.units] = bend.move(x[:, bent])
        assert_close(expected, function(x.view(5, 3, 4)).flatten(1))


def _course() -> tuple[Course, Tensor, Strip]:
    """A value of which two of five units bend, all its rows, and a strip of it."""
    t, bent = torch.tensor([0.2, 0.3, 0.6, 0.8], dtype=F64), torch.tensor([1, 3])
    ends = torch.randn(2, 5, dtype=F64)
    rows = torch.lerp(ends[0], ends[1], ((t - 0.2) / 0.6)[:, None])
    rows[1:-1, bent] += torch.randn(2, 2, dtype=F64)
    course = Course(ends, bent, rows[:, bent])
    return course, rows, Strip(t, {0: course})


def test_a_course_is_read_opened_and_refined() -> None:
    course, rows, strip = _course()
    units = torch.tensor([0, 1, 4, 3])
    assert_close(course.at(units, strip.share), rows[:, units])
    assert_close(course.opened(strip.share).rows, rows)
    assert_close(torch.stack(course.extremes), torch.stack(rows.aminmax(dim=0)))
    part = strip.refined(torch.tensor([0.3, 0.45, 0.6], dtype=F64))
    assert_close(part.front(0), torch.stack([rows[1], (rows[1] + rows[2]) / 2, rows[2]]))
    bent = part.values[0].bent
    assert bent is not None and len(bent) == 0  # straight between two neighbors
    whole = strip.refined(torch.tensor([0.2, 0.3, 0.45, 0.6, 0.8], dtype=F64))
    assert_close(whole.front(0)[[0, 1, 3, 4]], rows)
    assert_close(whole.front(0)[2], (rows[1] + rows[2]) / 2)


def test_a_bow_is_read_opened_and_refined() -> None:
    torch.manual_seed(0)
    t, unit = torch.tensor([0.2, 0.3, 0.6, 0.8], dtype=F64), torch.tensor([0, 17, 59])
    share = (t - t[0]) / (t[-1] - t[0])
    ends, deviation = torch.randn(2, 3, 4, 5, dtype=F64), torch.zeros(4, 3, 4, 5).to(memory_format=torch.channels_last)
    deviation[1:-1] = 1e-6 * torch.randn(2, 3, 4, 5)
    rows = torch.lerp(ends[0], ends[1], share.view(4, 1, 1, 1)) + deviation
    bow = Bow(ends, deviation.clone(memory_format=torch.preserve_format))
    assert_close(bow.at(unit, share), rows.flatten(1)[:, unit])
    assert_close(bow.opened(share).rows, rows)
    assert_close(bow.opened(share).bow(share).deviation, deviation, atol=1e-12, rtol=0)
    low, high = bow.extremes
    assert bool((low <= rows.flatten(1).amin(0)).all()) and bool((high >= rows.flatten(1).amax(0)).all())
    assert bow.bend(share) == float(deviation.abs().max())
    # Vertices between the two ends, and between two others.
    for finer in ([0.2, 0.3, 0.45, 0.6, 0.7, 0.8], [0.3, 0.45, 0.6], [0.3, 0.35, 0.4, 0.6, 0.8]):
        new = torch.tensor(finer, dtype=F64)
        found = Strip(t, {0: bow}).refined(new)
        piece = (torch.searchsorted(t, new, right=True) - 1).clamp(max=2)
        weight = ((new - t[piece]) / (t[piece + 1] - t[piece])).view(-1, 1, 1, 1)
        assert_close(found.front(0), torch.lerp(rows[piece], rows[piece + 1], weight), atol=1e-12, rtol=0)
        value = found.values[0]
        assert isinstance(value, Bow) and not bool(value.deviation[[0, -1]].any())
        assert value.deviation.is_contiguous(memory_format=torch.channels_last)
        assert_close(found.values[0].at(unit, found.share), found.front(0).flatten(1)[:, unit])
    assert_close(bow.deviation, deviation)  # left as it was


class Branches(nn.Module):
    """A skip connection, a concatenation, windows that overlap, slopes per channel and a clamp."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm1d(6)
        self.slopes = nn.PReLU(6)
        self.second = nn.Conv1d(6, 6, 3, padding=1, groups=2)
        self.third = nn.Conv1d(12, 3, 3, stride=2)
        self.last = nn.Linear(15, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slopes(self.norm(self.first(x)))
        x = x + self.second(x).relu()
        x = torch.cat([nn.functional.max_pool1d(x, 3, 1, 1), x.clamp(-0.4, 0.9)], 1)
        x = nn.functional.pad(self.third(x), (1, 0)).relu().flip(2)
        return self.last(x[:, :, 1:6].flatten(1))


def _branches() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(2)
    module = Branches().double().eval()
    a, b = torch.randn(2, 1, 24, dtype=F64).split(1)
    return module, a, b


@pytest.mark.parametrize(("small", "pieces"), [(0, 5), (0, 20), (0, 512), (512, 512)])
def test_branches_against_the_codes(small: int, pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, a, b = _branches()
    monkeypatch.setattr(track, "SMALL", small)
    monkeypatch.setattr(walk, "LEAN", pieces)
    found = line(net := ma.capture(module, a), a, b)
    assert found.pieces > 100
    assert_exact(found, net, module, (a,), (b,), samples=400)


def test_stretches_of_any_length_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module, a, b = _branches()
    net = ma.capture(module, a)
    whole = line(net, a, b)
    monkeypatch.setattr(track, "SMALL", 0)
    for pieces in (3, 17, 512):
        monkeypatch.setattr(walk, "LEAN", pieces)
        found = line(net, a, b)
        assert_close(found.breakpoints, whole.breakpoints, rtol=0, atol=1e-12)
        assert torch.equal(found.crossings.unit, whole.crossings.unit)
        assert torch.equal(found.crossings.operator, whole.crossings.operator)
        assert_close(found.ends, whole.ends)


def _wide() -> tuple[nn.Module, Tensor, Tensor]:
    """A network whose first layer is wide, so that few of its units bend on a stretch."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 5), nn.Flatten(), nn.Linear(968, 3)
    a, b = torch.randn(2, 1, 54, 54, dtype=F64).split(1)
    return nn.Sequential(*layers).double(), a, b


def test_an_early_convolution_runs_at_the_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module, a, b = _wide()
    net, rows = ma.capture(module, a), []
    call = Convolution.__call__

    def counted(self: Convolution, *inputs: Any) -> Any:
        rows.append(len(inputs[0]))
        return call(self, *inputs)

    monkeypatch.setattr(Convolution, "__call__", counted)
    monkeypatch.setattr(walk, "LEAN", 64)
    found = line(net, a, b, max_pieces=300)
    assert found.pieces >= 300 and max(rows) == 2 and sum(rows) < 60
    monkeypatch.undo()
    assert found.verify(module).exact


def test_wrong_columns_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    module, a, b = _wide()
    true = ConvolutionMap.columns
    monkeypatch.setattr(walk, "LEAN", 64)
    monkeypatch.setattr(ConvolutionMap, "columns", lambda self, units: _scaled(true(self, units)))
    with pytest.raises(ma.ExactnessError, match="NOT exact"):
        line(ma.capture(module, a), a, b, max_pieces=300).verify(module)


def _scaled(columns: Columns | None) -> Columns:
    assert columns is not None
    return replace(columns, value=columns.value * (1 + 1e-6))


def test_an_infinite_mask_among_straight_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "SMALL", 0)
    layer, mask = nn.Linear(6, 8).double(), torch.arange(8) % 3 == 0
    module = Net(lambda m, x: m.a(x).relu().masked_fill(m.mask, -torch.inf).amax(1, keepdim=True), a=layer, mask=mask)
    a, b = (3 * torch.randn(2, 6, dtype=F64)).split(1)
    line(ma.capture(module, a), a, b).verify(module)


class Deep(nn.Module):
    """Padded and strided convolutions, of single channels too, a skip connection, knots of two kinds, and a maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8)
        self.single = nn.Conv2d(8, 8, 5, stride=2, groups=8)
        self.wide, self.slopes, self.narrow = nn.Conv2d(8, 24, 1), nn.PReLU(24), nn.Conv2d(24, 8, 1)
        self.last = nn.Linear(8 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(4 * self.norm(self.first(nn.functional.pad(x, (1, 1, 1, 1)))))
        x = self.single(nn.functional.pad(x, (1, 2, 1, 2)))
        x = x + self.narrow(self.slopes(self.wide(x)))
        x = nn.functional.max_pool2d(x.clamp(-0.3, 0.4), 3)
        return self.last(x.flatten(1)).relu()


def _short() -> tuple[nn.Module, Tensor, Tensor]:
    """A line so short that nothing bends by more than a hundredth."""
    torch.manual_seed(3)
    module = Deep().double().eval()
    nn.init.uniform_(module.slopes.weight)
    x = torch.randn(1, 2, 18, 18, dtype=F64)
    return module, x, x + 0.02 * torch.randn_like(x)


def _bows(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Every deviation that goes through an affine step whole."""
    found, pushed = [], track.Track._pushed

    def noted(self: track.Track, place: int, strip: Strip, bows: dict[int, Bow]) -> dict[int, Bow] | None:
        found.extend(bow.deviation.dtype for bow in bows.values())
        return pushed(self, place, strip, bows)

    monkeypatch.setattr(track.Track, "_pushed", noted)
    return found


@pytest.mark.parametrize("pieces", [7, 512])
def test_single_precision_suffices_for_what_bends_little(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, a, b = _short()
    net = ma.capture(module, a)
    whole = line(net, a, b)
    assert whole.pieces > 20
    for name, value in (("SMALL", 0), ("DENSE", 10**6)):
        monkeypatch.setattr(track, name, value)
    monkeypatch.setattr(walk, "LEAN", pieces)
    # A module in float64 is followed as precisely as it can be checked, whatever counts as zero.
    line(net, a, b, tolerance=1e-8).verify(module)
    monkeypatch.setattr(partition, "FINE", 1.0)
    bows = _bows(monkeypatch)
    found = line(net, a, b, tolerance=1e-8)
    with pytest.raises(ma.ExactnessError, match="NOT exact"):
        found.verify(module)
    assert len(bows) > 4 and set(bows) == {torch.float32}
    assert_close(found.breakpoints, whole.breakpoints, rtol=0, atol=1e-7)
    assert torch.equal(found.crossings.unit, whole.crossings.unit)
    assert torch.equal(found.crossings.operator, whole.crossings.operator)
    assert 0 < float((found.ends - whole.ends).abs().max()) < 1e-8


def test_what_bends_much_stays_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    module, a, _ = _short()
    b = a + 0.1 * torch.randn_like(a)
    net = ma.capture(module, a)
    whole = line(net, a, b, max_pieces=60)
    for name, value in (("SMALL", 0), ("DENSE", 10**6)):
        monkeypatch.setattr(track, name, value)
    bows = _bows(monkeypatch)
    found = line(net, a, b, max_pieces=60)
    assert not bows and min(found.pieces, whole.pieces) >= 60
    assert_close(found.ends[:60], whole.ends[:60], rtol=0, atol=1e-12)
    # Were it allowed there, it would be seen.
    monkeypatch.setattr(track, "SINGLE", 2.0**60)
    wrong = line(net, a, b, max_pieces=60)
    assert bows
    with pytest.raises(ma.ExactnessError, match="NOT exact"):
        wrong.verify(module)
