"""Local complexity on planes and regions between samples: by hand, and against an independent algorithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import maxaffine as ma
from benchmarks.subdivision import edge_subdivision
from maxaffine._partition import crossed_regions, plane_complexity
from tests.partition.planes import linear, mlp, plane_of

F64 = torch.float64


def _centers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, dtype=F64, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.35])
def test_lines_that_meet_a_disc_or_a_square(radius: float) -> None:
    network = mlp(2, 60, 1)
    first = network[0]
    assert isinstance(first, nn.Linear)
    found, t = plane_of(network), _centers(12)
    away = first(t).detach().abs()
    disc, square = (plane_complexity(found, t, radius, shape=shape) for shape in ("disc", "square"))
    assert torch.equal(disc.total, (away < radius * first.weight.detach().norm(dim=1)).sum(1))
    assert torch.equal(square.total, (away < radius * first.weight.detach().abs().sum(1)).sum(1))
    assert sum(disc.units.values()) == 60
    assert disc.regions is not None and (disc.regions > disc.total).all()


@pytest.mark.parametrize("seed", range(3))
def test_deep_units_in_a_square_by_edge_subdivision(seed: int) -> None:
    """Every unit has one sign all over a square exactly when it has one at the vertices of its own skeleton there."""
    network = mlp(2, 16, 16, 16, 1, seed=seed)
    t = _centers(6, seed)
    found = plane_complexity(plane_of(network), t, 0.2, shape="square")
    for number, (x, y) in enumerate(t.tolist()):
        signs = edge_subdivision(network, (x - 0.2, x + 0.2, y - 0.2, y + 0.2)).signs[:, 4:]
        both = (signs > 0).any(0) & (signs < 0).any(0)
        expected = [int(part.sum()) for part in np.split(both, 3)]
        assert [int(counts[number]) for counts in found.per_operator.values()] == expected


def test_disc_against_samples_of_codes() -> None:
    network = mlp(2, 12, 12, 2, seed=1)
    net = ma.capture(network, torch.zeros(1, 2, dtype=F64))
    t = _centers(4)
    found = plane_complexity(plane_of(network), t, 0.3)
    random = np.random.default_rng(0)
    angle, size = random.uniform(0, 2 * np.pi, 60_000), 0.3 * np.sqrt(random.random(60_000))
    cloud = torch.as_tensor(np.stack([size * np.cos(angle), size * np.sin(angle)], 1))
    for number, center in enumerate(t):
        codes = net.codes(center + cloud)
        seen = sum(int((item.unpack() != item.unpack()[:1]).any(0).sum()) for item in codes.values())
        assert int(found.total[number]) == seen


def test_units_that_coincide_all_count() -> None:
    twice = nn.Sequential(linear([[1.0, 0.0], [1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]], [0.0, 0.0, 0.0, 1.0]), nn.ReLU())
    found = plane_complexity(plane_of(twice), torch.tensor([[0.05, 0.3], [0.5, 0.3]]), 0.1)
    assert found.total.tolist() == [3, 0]


def test_all_of_a_polygon() -> None:
    """A square as large as the polygon holds every unit that the partition found."""
    found = plane_of(mlp(2, 20, 20, 2))
    codes = found.codes()
    changing = sum(int((item.unpack() != item.unpack()[:1]).any(0).sum()) for item in codes.values())
    whole = plane_complexity(found, torch.zeros(1, 2), 1.0, shape="square")
    assert whole.total.tolist() == [changing]
    assert whole.regions is not None and whole.regions.tolist() == [found.regions]


def test_bad_neighborhoods() -> None:
    found = plane_of(mlp(2, 4, 1))
    with pytest.raises(ma.BadInput, match="leaves the polygon"):
        plane_complexity(found, torch.tensor([[0.95, 0.0]]), 0.1)
    with pytest.raises(ma.BadInput, match="leaves the polygon"):
        plane_complexity(found, torch.tensor([[3.0, 0.0]]), 0.1)
    with pytest.raises(ma.BadInput, match="radius"):
        plane_complexity(found, torch.zeros(1, 2), 0.0)
    with pytest.raises(ma.BadInput, match="shape"):
        plane_complexity(found, torch.zeros(1, 2), 0.1, shape="star")
    with pytest.raises(ma.BadInput, match="coordinates"):
        plane_complexity(found, torch.zeros(3), 0.1)


def test_regions_between_samples_of_one_layer() -> None:
    network = mlp(5, 40, 3)
    first = network[0]
    net = ma.capture(network, torch.zeros(1, 5, dtype=F64))
    x0, x1 = 4 * torch.randn(2, 12, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = crossed_regions(net, x0, x1, progress=False)
    assert torch.equal(found.breakpoints, ((first(x0) > 0) != (first(x1) > 0)).sum(1))
    torch.testing.assert_close(found.density, found.breakpoints / (x1 - x0).norm(dim=1))
    different = network(x0).argmax(1) != network(x1).argmax(1)
    assert (found.decisions[different] >= 1).all() and different.any()
    assert f"between {len(found)} pairs" in repr(found)
    assert len(crossed_regions(net, x0, x1, decisions=False, progress=False).decisions) == 0


def test_bad_pairs() -> None:
    net = ma.capture(mlp(5, 4, 3), torch.zeros(1, 5, dtype=F64))
    x = torch.randn(3, 5, dtype=F64)
    with pytest.raises(ma.BadInput, match="x1: shape"):
        crossed_regions(net, x, x[:2])
    with pytest.raises(ma.BadInput, match="equals that of x0"):
        crossed_regions(net, x, torch.cat([x[:2] + 1, x[2:]]))
