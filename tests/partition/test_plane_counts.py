"""Partitions of planes whose regions can be counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import maxaffine as ma
from benchmarks.subdivision import edge_subdivision
from maxaffine._partition import PlanePartition
from tests.partition.planes import arrangement_regions, code_count, linear, mlp, plane_of


def test_one_unit() -> None:
    found = plane_of(nn.Sequential(linear([[1.0, 1.0]], [0.0]), nn.ReLU()))
    assert found.regions == 2
    assert found.areas.tolist() == pytest.approx([2, 2])
    assert found.adjacency.tolist() == [[0, 1]]
    inner = found.edge_operators >= 0
    assert inner.sum() == 1 and found.edge_units[inner].tolist() == [0]
    slopes, _ = found.plane_map()
    assert sorted(slopes[:, 0].tolist()) == [[0, 0], [1, 1]]


def test_absolute_values_of_both_coordinates() -> None:
    class Absolute(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.abs()

    assert sorted(plane_of(Absolute()).centers.tolist()) == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]


@pytest.mark.parametrize("units", [1, 5, 30])
def test_one_layer_is_an_arrangement_of_lines(units: int) -> None:
    for seed in range(3):
        network = mlp(2, units, 1, seed=seed)
        found = plane_of(network)
        first = network[0]
        assert isinstance(first, nn.Linear)
        assert found.regions == arrangement_regions(first.weight.detach(), first.bias.detach())


@pytest.mark.parametrize("knots", [(-0.4, 0.3), (-0.1, 0.1)])
def test_two_knots_are_two_parallel_lines(knots: tuple[float, float]) -> None:
    weight = torch.tensor([[1.0, 0.2], [-0.3, 1.0], [0.7, -0.6]], dtype=torch.float64)
    found = plane_of(nn.Sequential(linear(weight), nn.Hardtanh(*knots)))
    # A line where each unit reaches each knot; lines of one unit are parallel and do not cross.
    lines = torch.cat([weight, weight])
    bias = torch.tensor([-knot for knot in knots], dtype=torch.float64).repeat_interleave(3)
    expected = 1 + sum(arrangement_regions(lines[[i]], bias[[i]]) - 1 for i in range(6))
    for i in range(6):
        for j in range(i):
            if i - j != 3:
                alone = arrangement_regions(lines[[i]], bias[[i]]) + arrangement_regions(lines[[j]], bias[[j]]) - 1
                expected += arrangement_regions(lines[[i, j]], bias[[i, j]]) - alone
    assert found.regions == expected


def test_maximum_of_three_planes_meets_in_a_point() -> None:
    angles = [2 * math.pi * k / 3 for k in range(3)]
    rows = [[math.cos(a), math.sin(a)] for a in angles]

    class Maxout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = linear(rows)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rows(x).amax(1, keepdim=True)

    found = plane_of(Maxout())
    assert found.regions == 3
    assert (found.edge_operators >= 0).sum() == 3
    inner = found.vertices[(found.vertices.abs() < 1 - 1e-9).all(1)]
    assert inner.tolist() == [pytest.approx([0, 0], abs=1e-12)]


@pytest.mark.parametrize(("running", "of"), [("cummax", "amax"), ("cummin", "amin")])
def test_running_extremes_are_extremes_of_ever_more_entries(running: str, of: str) -> None:
    class Running(nn.Module):
        def __init__(self, at_once: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.at_once = nn.Linear(2, 6, dtype=torch.float64), at_once

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            if self.at_once:
                return getattr(x, running)(dim=1).values
            return torch.cat([getattr(x[:, : 1 + n], of)(1, keepdim=True) for n in range(6)], 1)

    found, expected = plane_of(Running(True)), plane_of(Running(False))
    assert found.regions == expected.regions > 6
    assert found.verify(Running(True)).exact


def test_an_entry_that_wins_only_in_the_middle() -> None:
    """Four slanted planes and a flat one that is largest in a diamond, whose cell no other operator bounds."""

    class Maxout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = linear([[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0]], [0, 0, 0, 0, 0.5])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rows(x).amax(1, keepdim=True)

    found = plane_of(Maxout())
    assert found.regions == 5
    assert sorted(found.areas.tolist()) == pytest.approx([0.75, 0.75, 0.75, 0.75, 1.0])
    found.verify()


def test_deep_network_counts_as_dense_sampling_does() -> None:
    network = mlp(2, 6, 6, 1, seed=3)
    found = plane_of(network)
    axis = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    sampled = code_count(network, grid, [network[1], network[3]])
    # The grid may miss regions smaller than its spacing, and finds no others.
    large = int((found.areas > 25 * (2 / 1000) ** 2).sum())
    assert large <= sampled <= found.regions


def _same(a: PlanePartition, b: PlanePartition) -> None:
    assert (a.regions, len(a.vertices), len(a.edges)) == (b.regions, len(b.vertices), len(b.edges))
    assert a.areas.sort().values.tolist() == pytest.approx(b.areas.sort().values.tolist(), abs=1e-10)


@pytest.mark.parametrize("memory", [2**16, 2**18])
def test_tiles_meet(memory: int) -> None:
    network = mlp(2, 40, 40, 40, 3, seed=1)
    _same(plane_of(network, memory=memory), plane_of(network, memory=2**30))


@pytest.mark.parametrize("gap", [1e-9, 1e-8])
def test_tiles_meet_where_boundaries_lie_close(gap: float) -> None:
    """Two vertices of one side of a border, a few tolerances apart, are not one."""
    network = mlp(2, 40, 40, 40, 3, seed=1)
    layer = network[4]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[20:] = layer.weight[:20]
        layer.bias[20:] = layer.bias[:20] + gap * layer.weight[:20].norm(dim=1)
    _same(plane_of(network, memory=2**16), plane_of(network, memory=2**30))


def test_a_few_units_of_a_maximum_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = _convolutional()
    net = ma.capture(network, x)
    whole = ma.partition.plane(net, x, progress=False)
    monkeypatch.setattr("maxaffine._partition.planes.extremes.ENTRIES", 1)
    one_by_one = ma.partition.plane(net, x, progress=False)
    _same(whole, one_by_one)
    assert one_by_one.verify(network).exact


def _convolutional() -> tuple[nn.Sequential, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = [nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.1)]
        network = nn.Sequential(*body, nn.MaxPool2d(3, 1, 1), nn.Flatten(), nn.Linear(16, 3)).double()
        return network, torch.randn(3, 1, 8, 8, dtype=torch.float64)


def test_tiles_of_a_convolutional_network_meet() -> None:
    network, x = _convolutional()
    net = ma.capture(network, x)
    whole, tiled = (ma.partition.plane(net, x, memory=memory, progress=False) for memory in (2**30, 2**17))
    _same(whole, tiled)
    assert tiled.verify(network).exact


@pytest.mark.parametrize("widths", [(2, 12, 1), (2, 24, 24, 1), (2, 16, 16, 16, 16, 3)])
def test_as_many_cells_as_edge_subdivision(widths: tuple[int, ...]) -> None:
    """The published neuron-by-neuron algorithm, written independently."""
    network = mlp(*widths, seed=2)
    found, other = plane_of(network), edge_subdivision(network, (-1, 1, -1, 1))
    assert (found.regions, len(found.vertices)) == (other.regions, len(other.points))
    rounded = {tuple(row) for row in found.vertices.round(decimals=9).add(0.0).tolist()}
    assert rounded == {tuple(row) for row in torch.from_numpy(other.points).round(decimals=9).add(0.0).tolist()}
