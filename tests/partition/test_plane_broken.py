"""Broken partitions, which the checks must catch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import maxaffine as ma
from maxaffine._partition import PlanePartition
from tests.partition.planes import mlp, plane_of


@pytest.fixture(scope="module")
def found() -> PlanePartition:
    return plane_of(mlp(2, 8, 8, 3, seed=4))


def _with(found: PlanePartition, **arrays: np.ndarray) -> PlanePartition:
    return replace(found, cells=replace(found.cells, **arrays))


def test_sound_partition_passes(found: PlanePartition) -> None:
    found.check_geometry()
    assert found.verify(mlp(2, 8, 8, 3, seed=4)).exact


def test_moved_vertex(found: PlanePartition) -> None:
    points = found.cells.points.copy()
    points[int(found.edges[found.edge_operators >= 0][3, 0])] += 0.3
    with pytest.raises(ma.PartitionError, match="area|convex") as caught:
        _with(found, points=points).check_geometry()
    assert len(caught.value.place) == 2


def test_cell_left_out(found: PlanePartition) -> None:
    kept = np.arange(found.regions) != 5
    part, _, _ = found.cells.cells(np.flatnonzero(kept))
    with pytest.raises(ma.PartitionError, match="borders on 1"):
        replace(found, cells=part).check_geometry()


def test_cell_twice(found: PlanePartition) -> None:
    part, _, _ = found.cells.cells(np.array([*range(found.regions), 2]))
    with pytest.raises(ma.PartitionError, match="borders on"):
        replace(found, cells=part).check_geometry()


def test_torn_cell(found: PlanePartition) -> None:
    corners = found.cells.corners.copy()
    corners[[0, 1]] = corners[[1, 0]]
    with pytest.raises(ma.PartitionError, match=r"closed|borders"):
        _with(found, corners=corners).check_geometry()


def test_sound_geometry_of_another_network(found: PlanePartition) -> None:
    other = plane_of(mlp(2, 8, 8, 3, seed=5))
    mixed = replace(found, cells=other.cells, levels=other.levels, kept_values=None)
    mixed.check_geometry()
    report = mixed.verify(raises=False)
    assert not report.exact and report.misplaced > 0
    with pytest.raises(ma.PartitionError, match="disagree"):
        mixed.verify()


def test_missing_boundary() -> None:
    """A partition that leaves the second layer out is sound as geometry, and not this network's."""
    network = mlp(2, 8, 8, 3, seed=4)
    net = ma.capture(network, torch.zeros(2, 2, dtype=torch.float64))
    plane: dict[str, Any] = {
        "origin": torch.zeros(1, 2, dtype=torch.float64),
        "basis": torch.eye(2, dtype=torch.float64),
    }
    whole = ma.partition.plane(net, **plane)
    first = ma.partition.plane(net, until=whole.operators[0], **plane)
    coarse = replace(whole, cells=first.cells, levels=first.levels + 1, kept_values=None)
    report = coarse.verify(raises=False)
    assert not report.exact and report.missed > 0


def test_another_module(found: PlanePartition) -> None:
    with pytest.raises(ma.ExactnessError, match="maps and the module disagree"):
        found.verify(mlp(2, 8, 8, 3, seed=6))


def test_sign_pattern_that_no_affine_function_has() -> None:
    from maxaffine._partition.planes.complex.cells import Complex
    from maxaffine._partition.planes.complex.subdivide import Functions, subdivide

    square = Complex.polygon(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    table = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    with pytest.raises(ma.PartitionError, match="more than twice") as caught:
        subdivide(square, Functions(table, np.zeros(1), 0, np.array([7])), 1e-12)
    assert caught.value.place == (0.5, 0.5)
