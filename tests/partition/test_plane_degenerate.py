"""Partitions of planes in special position: what rounding likes to break."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from maxaffine._partition.planes.complex.cells import Complex
from maxaffine._partition.planes.extremes import Boundary, divide_by_extremes
from tests.partition.planes import linear, mlp, plane_of


def _relu(weight, bias=None) -> nn.Sequential:
    return nn.Sequential(linear(weight, bias), nn.ReLU())


@pytest.mark.parametrize("count", [3, 8, 40])
def test_lines_through_one_point(count: int) -> None:
    angles = [math.pi * (k + 0.3) / count for k in range(count)]
    found = plane_of(_relu([[math.cos(a), math.sin(a)] for a in angles]))
    assert found.regions == 2 * count
    assert len(found.vertices) == 1 + 2 * count + 4


def test_lines_at_small_angles_almost_through_one_point() -> None:
    """Where they cross is known to the tolerance over the angle: 60 lines at 1e-3 cross in few places, not in 1770."""
    generator = torch.Generator().manual_seed(0)
    angles = 1e-3 * torch.rand(60, generator=generator, dtype=torch.float64)
    shifts = 1e-11 * torch.randn(60, generator=generator, dtype=torch.float64)
    found = plane_of(_relu(torch.stack([angles.cos(), angles.sin()], 1), shifts))
    assert 120 <= found.regions < 400
    found.verify()


@pytest.mark.parametrize("factor", [1.0, -2.0, 1e-7, 1 / 3])
def test_a_unit_again(factor: float) -> None:
    rows = torch.tensor([[0.3, 1.0], [1.0, -0.7], [0.2, 0.1]], dtype=torch.float64)
    bias = torch.tensor([0.1, 0.2, 0.05], dtype=torch.float64)
    twice = _relu(torch.cat([rows, factor * rows]), torch.cat([bias, factor * bias]))
    assert plane_of(twice).regions == plane_of(_relu(rows, bias)).regions


def test_zero_weights_cut_nothing() -> None:
    assert plane_of(_relu([[0.0, 0.0], [1.0, 0.0]], [0.0, 0.0])).regions == 2
    assert plane_of(_relu([[0.0, 0.0]], [0.5])).regions == 1


def test_lines_through_corners_of_the_polygon() -> None:
    found = plane_of(_relu([[1.0, 1.0], [1.0, -1.0]]))
    assert found.regions == 4
    assert found.areas.tolist() == pytest.approx([1, 1, 1, 1])


def test_a_line_along_the_rim() -> None:
    assert plane_of(_relu([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])).regions == 1


def test_lines_closer_than_the_tolerance_become_one() -> None:
    assert plane_of(_relu([[1.0, 0.0], [1.0, 0.0]], [0.0, 1e-14])).regions == 2
    assert plane_of(_relu([[1.0, 0.0], [1.0, 0.0]], [0.0, 1e-8])).regions == 3


def test_a_corner_closer_than_the_tolerance_to_a_chord_of_two_winners() -> None:
    """As a trained network had it: the chord ends at two corners, and a third one beside it loses by rounding."""
    points = np.array([[0.0, 0.0], [3.398e-4, 9.531e-4], [-1.974e-4, 8.244e-4], [-1.359e-13, 5.684e-13]])
    entries = np.array([[-8.61e-14, 0.0], [0.0, 0.0], [0.0, -1.249e-4], [0.0, 0.0]])
    windows, least = np.array([[0, 1]]), np.full(2, 4e-14)
    cells, _ = divide_by_extremes(Complex.polygon(points), entries, windows, least, Boundary(0, False, 5e-13))
    assert len(cells.counts) == 1
    finer, _ = divide_by_extremes(Complex.polygon(points), entries, windows, least, Boundary(0, False, 1e-14))
    assert len(finer.counts) == 2


def test_a_unit_that_vanishes_on_cells() -> None:
    """The second layer reads a unit that is dead on half of the plane, without a bias: zero all over the cell."""
    found = plane_of(nn.Sequential(linear([[1.0, 0.0]]), nn.ReLU(), linear([[1.0], [-2.0]]), nn.ReLU()))
    assert found.regions == 2


def test_a_difference_that_cancels() -> None:
    """relu(x) - relu(-x) - x is zero everywhere but for rounding, and cuts nothing."""
    first = linear([[0.1, 0.7], [-0.1, -0.7], [0.3, 0.3], [-0.3, -0.3]])
    second = linear([[1 / 3, -1 / 3, -0.1, 0.1], [1.0, 1.0, 0.0, 0.0]])
    third = linear([[1.0, 0.0], [3.0, 0.0]])
    found = plane_of(nn.Sequential(first, nn.ReLU(), second, nn.LeakyReLU(0.3), third))
    assert found.regions <= 2 * 4
    found.verify()

    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = linear([[0.1, 0.7], [1 / 3, -0.2]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.rows(x)
            return torch.relu(torch.relu(y) - torch.relu(-y) - 0.1 * y - 0.9 * y)

    assert plane_of(Nothing()).regions == 4


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.MaxPool1d(2, 1), "maximum"])
def test_units_far_smaller_than_others(activation: nn.Module | str) -> None:
    """Every unit's boundary counts, whatever its scale: multiples of the units have the same regions."""

    class Scaled(nn.Module):
        def __init__(self, scales: torch.Tensor) -> None:
            super().__init__()
            self.first, self.second, self.scales = linear(first, bias), linear(second, bias), scales

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.scales * self.first(x)
            y = self.scales.flip(0) * self.second(torch.relu(y) / self.scales)
            if isinstance(activation, str):
                return torch.maximum(y, 0.5 * y)
            return activation(y.reshape(-1, 4, 2)).flatten(1)

    generator = torch.Generator().manual_seed(5)
    first, second = (torch.randn(8, size, generator=generator, dtype=torch.float64) for size in (2, 8))
    bias = torch.randn(8, generator=generator, dtype=torch.float64) / 3
    scales = torch.tensor([1.0, 1.0, 1e-20, 1e-20, 1e6, 1e6, 1e-9, 1e-9], dtype=torch.float64)
    even, uneven = Scaled(torch.ones(8, dtype=torch.float64)), Scaled(scales)
    found = plane_of(uneven)
    assert found.regions == plane_of(even).regions > 20
    found.verify(uneven)


def test_verify_does_not_take_rounding_for_a_missing_boundary() -> None:
    """The codes of units that cancel are those of rounding, at points of one cell now this and now that."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 2, generator=generator, dtype=torch.float64)

    class Cancelling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = linear(rows)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.rows(x)
            return torch.relu(torch.relu(y) - torch.relu(-y) - 0.1 * y - 0.9 * y)

    found = plane_of(Cancelling())
    report = found.verify(samples=200)
    assert report.exact and report.edgy > 20


def test_verify_sees_boundaries_of_units_too_small_for_their_block() -> None:
    """Behind six leaky layers all negative values are a billionth of a thousandth: no boundary is found among them."""
    layers = [layer for _ in range(6) for layer in (linear(torch.eye(2)), nn.LeakyReLU(0.01))]
    found = plane_of(nn.Sequential(*layers, linear([[1.0, -1.0]]), nn.ReLU()))
    assert found.regions == 5
    report = found.verify(samples=200, raises=False)
    assert report.misplaced > 10


@pytest.mark.parametrize("seed", range(3))
def test_units_that_cancel_leave_no_noise_to_the_layers_behind(seed: int) -> None:
    """Nothing but zeros enters the last layers, which have no offsets: they cut nothing."""
    generator = torch.Generator().manual_seed(seed)
    first, weight = (torch.randn(6, size, generator=generator, dtype=torch.float64) for size in (2, 6))

    class Cancelling(nn.Module):
        def __init__(self, tail: nn.Module) -> None:
            super().__init__()
            self.rows, self.tail = linear(first, 0.2 * first[:, 0] + 0.1), tail

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.rows(x)
            return self.tail(torch.relu(torch.relu(y) - torch.relu(-y) - 0.1 * y - 0.9 * y))

    lines = plane_of(_relu(first, 0.2 * first[:, 0] + 0.1))
    for memory in (2**16, 2**26):
        found = plane_of(Cancelling(nn.Sequential(linear(weight), nn.ReLU(), linear(weight), nn.ReLU())), memory=memory)
        assert found.regions == lines.regions


def test_a_boundary_again_in_a_deeper_layer() -> None:
    """A unit of the second layer changes sign exactly where one of the first does."""
    first = linear([[1.0, 0.3], [0.2, -1.0]], [0.1, 0.0])
    second = linear([[1.0, 0.0], [0.7, 0.0], [0.0, 1.0]])
    found = plane_of(nn.Sequential(first, nn.LeakyReLU(0.1), second, nn.LeakyReLU(0.1)))
    assert found.regions == 4


@pytest.mark.parametrize("seed", range(3))
def test_no_biases(seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(2, 12, bias=False), nn.ReLU(), nn.Linear(12, 12, bias=False), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(12, 3, bias=False))
    found = plane_of(network)
    # Every boundary is a ray from the origin.
    assert len(found.vertices) == found.regions + 5
    found.verify(network)


def test_crossings_of_many_lines_in_lattice_points() -> None:
    """Rows of a lattice in three directions: six cells meet in every crossing."""
    shifts = torch.linspace(-1.5, 1.5, 13, dtype=torch.float64)[1:-1].tolist()
    rows, bias = [], []
    for direction in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]):
        rows += [direction] * len(shifts)
        bias += shifts
    found = plane_of(_relu(rows, bias))
    squares = (sum(abs(s) < 1 for s in shifts) + 1) ** 2
    assert found.regions > squares
    found.verify()
    for vertex in found.vertices[(found.vertices.abs() < 1 - 1e-9).all(1)]:
        assert ((vertex / 0.25).round() * 0.25 - vertex).abs().max() < 1e-12


def test_far_from_the_origin_and_very_small() -> None:
    network = mlp(2, 16, 16, 1)
    found = plane_of(network, extent=[0.3, 0.3 + 1e-6, 0.2, 0.2 + 1e-6])
    assert found.regions >= 1
    wide = plane_of(network, extent=1e6)
    assert float(wide.areas.sum()) == pytest.approx(4e12)


def test_any_convex_polygon() -> None:
    network = mlp(2, 16, 16, 1)
    corners = [[math.cos(a), math.sin(a)] for a in torch.linspace(0, 2 * math.pi, 8)[:-1].tolist()]
    found, turned = plane_of(network, extent=corners), plane_of(network, extent=corners[::-1])
    assert found.regions == turned.regions
    found.verify()


def test_equal_entries_of_a_maximum() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = linear([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rows(x).amax(1, keepdim=True)

    assert plane_of(Same()).regions == 2


def test_an_edge_is_named_after_a_unit_that_changes_there() -> None:
    """max(x, -x, y) ends on the axis where y wins, along which max(x, -x) goes on."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = linear([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rows(x).reshape(-1, 2, 3).amax(2)

    found = plane_of(Two())
    assert found.regions == 4
    inner = (found.edge_cells >= 0).all(1)
    codes = found.codes()["amax"].unpack()
    left, right = (codes[cells, found.edge_units[inner]] for cells in found.edge_cells[inner].T)
    assert (left != right).all()


def test_no_vertices_are_left_of_chords_that_lose() -> None:
    """Small integers: chords meet in common points, wait for one another, and are found to divide nothing."""
    rows = [[1, 2, -1], [0, -1, 0], [1, 2, 0], [-1, 2, 0], [0, -2, 0], [-1, 1, 1], [-2, 1, -1], [0, 2, -1], [-1, 2, 0]]
    square = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    entries = np.column_stack([square, np.ones(4)]) @ np.array(rows, dtype=float).T
    windows, least = np.arange(9).reshape(3, 3), np.full(9, 1e-13)
    cells, _ = divide_by_extremes(Complex.polygon(square), entries, windows, least, Boundary(0, False, 1e-10))
    edges = np.bincount(cells.ends.ravel())
    assert (edges[:4] == 2).any() and not (edges[4:] == 2).any()


def test_maximum_behind_dead_units() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = linear([[1.0, 0.2], [-1.0, 0.3], [0.1, 1.0], [0.4, -1.0]], [-0.3, -0.2, -0.4, -0.1])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.rows(x)).amax(1, keepdim=True)

    plane_of(Pooled()).verify()
