"""Planes through images with flat patches, which tie pooling windows at points, along lines and on whole cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._data import load
from maxaffine._partition.planes.extremes import _level, _slivers, _tie
from tests.partition.images import build


def sparse(seed: int, size: int = 28) -> Tensor:
    """A black image, and two with random bytes on a tenth of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    bytes_ = torch.randint(0, 256, (2, 1, size, size), generator=generator) / 255
    shown = torch.rand(2, 1, size, size, generator=generator) < 0.1
    return torch.cat([torch.zeros(1, 1, size, size), bytes_ * shown])


def pooled(seed: int, *tail: nn.Module) -> nn.Sequential:
    """A convolution, a leaky ReLU and a max-pooling."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Flatten(), *tail)


@pytest.mark.parametrize(("seed", "regions"), [(1, 1608), (3, 1406)])
def test_a_black_anchor(seed: int, regions: int) -> None:
    """All windows tie at it: some hundred boundaries pass through one point."""
    network, x = pooled(seed), sparse(seed)
    found = ma.partition.plane(ma.capture(network, x), x, extent=0.002, progress=False)
    assert found.regions == regions == len(np.unique(found.digests(found.centers)))
    assert found.verify(network, samples=100, every_cell=False).exact


def test_photographs_of_clothes() -> None:
    """Windows that tie along whole edges once cut cells apart that share one code: 193 cells for 147 codes."""
    try:
        images = load("fashion-mnist").test.inputs[9:12]
    except ma.DataError as error:
        pytest.skip(str(error))
    network = pooled(3)
    found = ma.partition.plane(ma.capture(network, images), images, extent=0.002, progress=False)
    assert found.regions == 147 == len(np.unique(found.digests(found.centers)))
    assert found.verify(network, samples=100, every_cell=False).exact


def test_slivers_along_a_tie_are_no_cells_of_their_own() -> None:
    """Entries that differ by 1e-14 around a line were leveled in a triangle beside it: 3,717 cells, 3,716 codes."""
    try:
        images = load("fashion-mnist").test.inputs[30:33]
    except ma.DataError as error:
        pytest.skip(str(error))
    network = build("residual")
    net = ma.capture(network, images)
    found = ma.partition.plane(net, images, extent=(10.5, 11.5, 10.6, 10.7), progress=False)
    assert found.regions == 3716 == len(np.unique(found.digests(found.centers)))
    assert found.verify(network, samples=100, every_cell=False).exact


def test_ties_on_one_side_of_an_edge_alone_are_of_rounding() -> None:
    # A row of cells, each beside the next, the edges named by whether each side could have the winners of the other.
    def slivers(areas: list[float], *within: tuple[bool, bool]) -> list[list[int]]:
        sides = np.array([(number, number + 1) for number in range(len(within))])
        return _slivers(sides, np.array(within).T, np.array(areas)).tolist()

    assert slivers([1, 9], (True, False)) == slivers([1, 9], (True, True)) == [[0, 1]]
    assert slivers([9, 1], (False, True)) == [[1, 0]]
    # Where another unit changes there is a boundary, and a large cell in which entries tie is no sliver.
    assert slivers([1, 9], (False, False)) == slivers([9, 1], (True, False)) == []
    # Between two it goes with the larger, beside another sliver with neither.
    assert slivers([8, 1, 9], (False, True), (True, False)) == [[1, 2]]
    assert slivers([9, 1, 8], (False, True), (True, False)) == [[1, 0]]
    assert slivers([1, 2, 9], (True, False), (True, False)) == [[1, 2]]


@pytest.fixture(scope="module")
def beside() -> tuple[ma.SplineNetwork, nn.Sequential, dict, Tensor]:
    """A plane whose origin lies a little off an image in it."""
    x = sparse(2).double()
    network = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 3)).double()
    basis = torch.stack([(x[i] - x[0]) / (x[i] - x[0]).norm() for i in (1, 2)])
    origin = x[:1] + 0.0005 * basis[0] + 0.0007 * basis[1]
    return (
        ma.capture(network, x),
        network,
        {"origin": origin, "basis": basis, "extent": 0.004, "progress": False},
        x[:1],
    )


def test_an_image_in_the_plane_that_nobody_declared(beside: tuple) -> None:
    net, network, plane, image = beside
    found, told = ma.partition.plane(net, **plane), ma.partition.plane(net, points=image, **plane)
    assert found.regions == told.regions == len(np.unique(found.digests(found.centers))) > 8
    assert found.verify(network, samples=100).exact and told.verify(network, samples=100).exact
    # The lines that made the image a vertex are gone: every vertex is a corner of three cells, or lies on the rim.
    assert (np.bincount(told.edges.ravel().numpy()) > 2)[4:].all() and told.edge_operators.min() == -1


def test_tiles_hold_whole_cells_and_are_gone_on_with(beside: tuple, tmp_path: Path) -> None:
    net, network, plane, image = beside
    whole = ma.partition.plane(net, points=image, **plane)
    tiles = ma.partition.stream_plane(net, tmp_path, points=image, memory=2**16, **plane)
    assert tiles.regions == whole.regions and tiles.whole().regions == whole.regions
    tiles.check()
    with pytest.raises(ma.BadInput, match="plane differ"):
        ma.partition.stream_plane(net, tmp_path, memory=2**16, **plane)


def test_points_beside_the_plane_are_refused(beside: tuple) -> None:
    net, _, plane, image = beside
    with pytest.raises(ma.BadInput, match="points: one lies"):
        ma.partition.plane(net, points=image + 1e-9 * torch.rand_like(image), **plane)


def test_verify_finds_a_region_that_is_divided_for_nothing() -> None:
    network, x = pooled(0), sparse(0, 8)
    found = ma.partition.plane(ma.capture(network, x), x, extent=0.002, progress=False)
    twice = found.cells.cells(np.array([*range(found.regions), 0]))[0]
    assert replace(found, cells=twice, kept_values=None).verify(samples=50, raises=False).repeated == 1


def test_ties_are_an_equivalence() -> None:
    """Chains of steps that count as none become equal, to the largest; raising one raises its equals."""
    entries = np.array([[[1.0, 1.0 + 6e-15, 1.0 + 12e-15, 0.5], [3.0, 2.0, 2.0, 1.0]]])
    _level(entries, np.array([1e-14, 1e-14]))
    assert entries[0, 0].tolist() == [1.0 + 12e-15] * 3 + [0.5] and entries[0, 1].tolist() == [3, 2, 2, 1]
    _tie(entries, np.array([0, 0]), np.array([0, 1]), np.array([[1, 0, 1], [1, 3, 0]]))
    assert entries[0, 1].tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("extent", [1e-9, 1e-12])
def test_outputs_that_cancel_are_judged_by_what_they_are_made_of(extent: float) -> None:
    """The output is 0 at the anchor, and next to it what rounding leaves of values near 1e4."""
    layers = nn.Linear(4, 8), nn.Linear(8, 2)
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1]).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(1e4)
        layers[1].bias.sub_(network(x[:1])[0])
    found = ma.partition.plane(ma.capture(network, x), x, extent=extent, progress=False)
    assert found.verify(network, samples=100).exact
    wrong = nn.Sequential(network[0], network[1], nn.Linear(8, 2).double())
    assert not found.verify(wrong, samples=100, raises=False).exact
