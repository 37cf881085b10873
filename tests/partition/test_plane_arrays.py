"""The index arithmetic of planes against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import maxaffine as ma
from maxaffine._partition.columns import column_extremes
from maxaffine._partition.planes import levels
from maxaffine._partition.planes.complex.cells import fresh, lengths_of, order_along, ring, starts_of
from maxaffine._partition.planes.complex.faces import cycles
from maxaffine._partition.planes.complex.signs import Signs

PLACES = st.sampled_from([0.0, 1e-300, 0.25, 0.25 + 1e-16, 0.5, 1.0 - 1e-16, 1.0, -0.5, 1.5, float("nan")])


@given(st.lists(st.tuples(st.integers(0, 4), PLACES), max_size=12))
def test_order_along_rows(entries: list[tuple[int, float]]) -> None:
    """Also where the sum of row and place tells entries apart wrongly, or not at all."""
    row, at = np.array([r for r, _ in entries], dtype=np.int64), np.array([a for _, a in entries])
    assert order_along(row, at).tolist() == np.lexsort((at, row)).tolist()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.lists(st.integers(0, 2), max_size=9))
def test_rings_and_changes(counts: list[int], keys: list[int]) -> None:
    rows = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    starts = starts_of(np.array(counts))
    assert ring(starts).tolist() == np.concatenate([np.roll(row, -1) for row in rows]).tolist()
    assert ring(starts, -1).tolist() == np.concatenate([np.roll(row, 1) for row in rows]).tolist()
    other = keys[::-1]
    expected = [n == 0 or (keys[n], other[n]) != (keys[n - 1], other[n - 1]) for n in range(len(keys))]
    assert fresh(np.array(keys, dtype=np.int64), np.array(other, dtype=np.int64)).tolist() == expected


@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))))
def test_cycles_of_a_permutation(following: list[int]) -> None:
    found, seen = [], set()
    for leader in range(len(following)):
        walk, here = [], leader
        while here not in seen:
            seen.add(here)
            walk.append(here)
            here = following[here]
        found += [walk] if walk else []
    starts, order = cycles(np.array(following))
    assert [part.tolist() for part in np.split(order, starts[1:-1])] == found


@pytest.mark.parametrize("functions", [0, 1, 63, 64, 65, 130])
def test_signs_at_the_ends_of_edges(functions: int) -> None:
    rng = np.random.default_rng(functions)
    table, ends = rng.integers(-1, 2, (20, functions)).astype(float), rng.integers(0, 20, (30, 2))
    edge, function = Signs.of(table).crossed_edges(ends)
    expected = np.argwhere(table[ends[:, 0]] * table[ends[:, 1]] < 0)
    assert np.stack([edge, function], 1).tolist() == expected.tolist()


@pytest.mark.parametrize("shape", [(1, 3), (9, 1), (5000, 7), (4097, 2, 3), (300, 2000), (8, 0)])
def test_extremes_of_columns(shape: tuple[int, ...]) -> None:
    table = np.random.default_rng(0).standard_normal(shape)
    low, high = column_extremes(table)
    assert np.array_equal(low, table.min(0)) and np.array_equal(high, table.max(0))
    if table.size:
        table[-1, ..., 0] = np.nan
        assert np.isnan(column_extremes(table)[0]).sum() == np.isnan(table.min(0)).sum() > 0


def test_lengths_far_from_one() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0], [-3e-200, 4e-200], [3e200, -4e200]])
    assert np.allclose(lengths_of(vectors) / [5, 1, 5e-200, 5e200], [1, 0, 1, 1], rtol=1e-15)
    assert np.array_equal(lengths_of(np.asfortranarray(vectors)), lengths_of(vectors))


def test_planes_of_one_network_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a network's graph depends on where it ends; and values may come in chunks."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    net = ma.capture(module, torch.zeros(1, 2, dtype=torch.float64))
    anchors = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    first = ma.partition.plane(net, anchors, extent=2.0, until=net.operators[1].name)
    whole = ma.partition.plane(net, anchors, extent=2.0)
    assert first.regions < whole.regions and whole.verify(module).exact and first.verify().exact
    monkeypatch.setattr(levels, "CHUNK_BYTES", 8 * 12 * 3)
    again = ma.partition.plane(ma.capture(module, torch.zeros(1, 2, dtype=torch.float64)), anchors, extent=2.0)
    assert np.array_equal(again.cells.sides, whole.cells.sides)
    assert torch.allclose(again.values, whole.values, rtol=0, atol=1e-13)
