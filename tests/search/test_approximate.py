"""Approximate search: with full effort it is the exact one, with less its recall is what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import maxaffine as ma
from maxaffine._codes import Codes, RowLayout, RowMetric, code_distance
from maxaffine._data import load
from maxaffine._search import CodeIndex, Neighbors, Recall
from maxaffine._search.approximate import Sketch
from maxaffine._search.nearest import Part
from maxaffine.errors import BadInput, DataError, MaxAffineError
from tests.search.drawn import LAYOUT, drawn

PLAIN = {"relu": (2, (70,)), "pool": (4, (3, 3)), "wide": (9, (13,))}


def clustered(batch: int, seed: int, pieces: int = 2, units: int = 200, groups: int = 30) -> Codes:
    """Noisy copies of a few prototypes, the same prototypes for every seed."""
    prototypes = torch.randint(0, pieces, (groups, units), generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    codes = prototypes[torch.randint(0, groups, (batch,), generator=generator)]
    noise = torch.randint(0, pieces, codes.shape, generator=generator)
    keep = torch.rand(codes.shape, generator=generator) < 0.7
    return Codes.from_tensors({"x": (torch.where(keep, codes, noise), pieces)})


def same(a: Neighbors, b: Neighbors) -> bool:
    return torch.equal(a.ids, b.ids) and torch.equal(a.distances, b.distances)


@given(
    st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=len(LAYOUT), max_size=len(LAYOUT)).filter(
        lambda w: any(w[:5])
    ),
    st.integers(0, 1000),
    st.integers(2, 60),
    st.sampled_from([1, 8, 64, 100]),
    st.sampled_from([1, 3]),
)
@settings(max_examples=15)
def test_with_full_effort_it_is_exact(weights: list[float], seed: int, rows: int, bits: int, threads: int) -> None:
    index, queries = CodeIndex(drawn(rows, seed), range(rows + 5, 5, -1)), drawn(7, seed + 1)
    lists = 1 + seed % rows
    recall = index.prepare(weights, k=1, lists=lists, probes=lists, candidates=rows + 4, bits=bits, seed=seed)
    assert (recall.value, recall.high, recall.lists) == (1.0, 1.0, lists) and recall.low < 1
    index.remove([7])
    index.add(drawn(4, seed + 2), [100, 3, 2, 1])
    for k in (1, len(index)):
        found = index.search(queries, k, weights, approximate=True, threads=threads)
        assert same(found, index.search(queries, k, weights))


@pytest.mark.parametrize("pieces", [2, 3, 4, 5, 9])
def test_every_width(pieces: int) -> None:
    """The padding trap: units that are no whole bytes, and bytes that are no whole words."""
    for units in [1, 7, 9, 64, 65, 73]:
        codes = Codes.from_tensors({"x": (torch.randint(0, pieces, (40, units)), pieces)})
        index = CodeIndex(codes)
        for bits in (1024, 5):
            index.prepare(lists=4, probes=4, candidates=40, bits=bits)
            assert same(index.search(codes, 10, approximate=True), index.search(codes, 10))


@pytest.mark.parametrize("pieces", [2, 3, 4, 5, 9])
def test_a_sketch_holds_bits_of_units(pieces: int) -> None:
    """All bits of one operator, each once: their places skip the padding."""
    layout = RowLayout("x", pieces, (13, 5))
    tensor = torch.randint(0, pieces, (50, 13, 5))
    rows = layout.rows(Codes.from_tensors({"x": (tensor, pieces)})["x"])
    sketch = Sketch.draw(RowMetric((layout,), (1.0,), None), 10_000, 0)
    part = Part(np.arange(50), (rows,))
    found = np.unpackbits(replace(sketch, whole=False).of(part), axis=1, bitorder="little")
    flat = tensor.flatten(1).numpy()
    planes = [flat >> j & 1 for j in range((pieces - 1).bit_length())]
    planes += [planes[0] ^ planes[1]] if pieces in (3, 4) else []
    expected = np.concatenate(planes, axis=1)
    assert np.array_equal(found[:, : expected.shape[1]], expected) and not found[:, expected.shape[1] :].any()
    assert found.shape[1] % 64 == 0 and sketch.whole == (pieces <= 4)
    if sketch.whole:
        assert np.array_equal(sketch.of(part), rows), "no bit is moved where all of them are compared"


def test_an_operator_has_bits_as_its_weight_asks() -> None:
    layouts = tuple(RowLayout(name, pieces, units) for name, (pieces, units) in PLAIN.items())
    for seed in (0, 1):
        sketch = Sketch.draw(RowMetric(layouts, (1.0, 0.5, 0.25), None), 1000, seed)
        # unequal units flip all, two thirds and about half of their bits
        assert np.bincount(sketch.places[:, 0]).tolist() == pytest.approx(
            [1000 * w / 2.25 for w in (1, 0.75, 0.5)], abs=1
        )
        counts = np.bincount(sketch.places[sketch.places[:, 0] == 0, 1])
        assert counts.max() - counts.min() <= 1, "no unit counts for more than the others"


@pytest.mark.parametrize("pieces", [2, 4, 9])
def test_recall_is_what_a_loop_finds(pieces: int) -> None:
    """Few probes miss some, and the reported number is that of a sort of all distances."""
    base, queries = clustered(600, 1, pieces), clustered(90, 2, pieces)
    index, k = CodeIndex(base), 7
    distances = code_distance(queries, base)
    kth = distances.sort(1).values[:, k - 1 : k]
    values = []
    for probes, candidates in [(1, 7), (1, 20), (4, 60), (40, 600)]:
        recall = index.prepare(k=k, lists=40, probes=probes, candidates=candidates, bits=64, queries=queries)
        found = index.search(queries, k, approximate=True)
        assert torch.equal(found.distances, distances.gather(1, found.ids)), "what is found is at its exact distance"
        assert all(len(set(row)) == k for row in found.ids.tolist())
        assert recall.value == pytest.approx((found.distances <= kth).double().mean().item())
        assert (recall.queries, recall.k, recall.probes, recall.candidates) == (90, k, probes, candidates)
        assert 0 <= recall.low < recall.value <= recall.high <= 1
        values.append(recall.value)
    assert values[0] < 0.9 and values[-1] == 1.0 and values == sorted(values)
    assert index.recall == recall and "recall@7 1.000" in repr(index)


def test_rows_as_queries_do_not_find_themselves() -> None:
    codes = Codes.from_tensors({"x": (torch.rand(300, 400) > 0.5, 2)})
    index = CodeIndex(codes)
    recall = index.prepare(k=1, lists=60, probes=1, candidates=2)
    # random rows: every row is its own nearest, and its nearest other one lies in any list
    assert index.search(codes, 1, approximate=True).ids.flatten().tolist() == list(range(300))
    assert recall.value < 0.7


def test_it_reaches_the_recall_that_is_asked_for() -> None:
    index = CodeIndex(clustered(3000, 1))
    asked = [index.prepare(recall=target) for target in (0.3, 0.9, 1.0)]
    # measured on other queries than those that the effort was chosen by
    for recall, target in zip(asked, (0.3, 0.9, 1.0), strict=True):
        assert recall.high >= target and recall.queries == 128
    efforts = [recall.probes * recall.candidates for recall in asked]
    assert efforts == sorted(efforts) and efforts[0] < efforts[2]
    queries = clustered(200, 5)
    exact = index.search(queries, 10)
    index.prepare()
    found = index.search(queries, 10, approximate=True)
    assert (found.distances <= exact.distances[:, -1:]).double().mean() > 0.85


def test_interval() -> None:
    """Wilson's score interval of 95 of 100, from a table."""
    recall = Recall.of(np.repeat([1.0, 0.0], [95, 5]), 1, 1, 1, 1)
    assert (recall.low, recall.high) == (pytest.approx(0.888, abs=1e-3), pytest.approx(0.978, abs=1e-3))
    assert Recall.of(np.ones(10), 1, 1, 1, 1).low == pytest.approx(0.722, abs=1e-3)


def test_the_seed_decides() -> None:
    base, queries = clustered(500, 1), clustered(50, 2)
    found = []
    for seed in (3, 3, 4):
        index = CodeIndex(base)
        recall = index.prepare(lists=20, probes=1, candidates=12, bits=32, seed=seed)
        found.append((recall, index.search(queries, 10, approximate=True)))
    assert found[0][0] == found[1][0] and same(found[0][1], found[1][1])
    assert not same(found[0][1], found[2][1])


def test_threads_change_nothing() -> None:
    index, queries = CodeIndex(clustered(500, 1)), clustered(50, 2)
    before = faiss.omp_get_max_threads(), torch.get_num_threads()
    index.prepare(lists=20, probes=2, candidates=20, threads=2)
    one, three = (index.search(queries, 10, approximate=True, threads=threads) for threads in (1, 3))
    assert same(one, three)
    assert (faiss.omp_get_max_threads(), torch.get_num_threads()) == before


def test_added_rows_are_found_and_removed_ones_are_not() -> None:
    base, more = clustered(400, 1), clustered(100, 2)
    index = CodeIndex(base)
    index.prepare(lists=20, probes=1, candidates=15)
    index.add(more, range(1000, 1100))
    assert index.search(more, 1, approximate=True).distances.max() == 0
    gone = [*range(0, 400, 2), *range(1000, 1050)]
    assert index.remove([*gone, 5000]) == 250
    found = index.search(Codes.concat([base, more]), 12, approximate=True)
    assert not set(found.ids.flatten().tolist()) & set(gone)
    index.add(base.rows([0]), [0])
    assert index.search(base.rows([0]), 1, approximate=True).ids.tolist() == [[0]]


def test_more_neighbors_than_candidates_or_rows_of_a_list() -> None:
    base = clustered(120, 1)
    index = CodeIndex(base)
    index.prepare(k=2, lists=40, probes=1, candidates=3)
    for k in (3, 50, 120):
        found = index.search(base, k, approximate=True)
        assert all(len(set(row)) == k for row in found.ids.tolist())
        assert (found.distances.diff(dim=1) >= 0).all()
    assert same(index.search(base, 120, approximate=True), index.search(base, 120))
    for approximate in (True, False):
        with pytest.raises(BadInput, match="k=121, but the index holds 120 rows"):
            index.search(base, 121, approximate=approximate)
    assert index.search(base.rows([]), 3, approximate=True).ids.shape == (0, 3)
    index.prepare(k=2, lists=4, probes=1000, candidates=1000)
    assert same(index.search(base, 5, approximate=True), index.search(base, 5))


@pytest.mark.parametrize("memory_map", [False, True])
def test_save_and_load(memory_map: bool, tmp_path: Path) -> None:
    base, queries = drawn(300, 1, PLAIN), drawn(20, 2, PLAIN)
    index, weights = CodeIndex(base), {"relu": 1.0, "pool": 0.3}
    index.prepare(weights, k=5, lists=17, probes=2, candidates=15, bits=40)
    index.remove(range(0, 300, 7))
    index.save(tmp_path / "a.codeindex")
    loaded = CodeIndex.load(tmp_path / "a.codeindex", memory_map=memory_map)
    assert loaded.recall == index.recall and str(index.recall) in repr(loaded)
    assert same(*(item.search(queries, 9, weights, approximate=True) for item in (index, loaded)))
    assert same(*(item.search(queries, 9) for item in (index, loaded)))
    for item in (index, loaded):
        item.add(drawn(50, 3, PLAIN), range(1000, 1050))
        item.remove([1, 2, 3])
    assert same(*(item.search(queries, 9, weights, approximate=True) for item in (index, loaded)))
    for item in (index, loaded):
        item.prepare(weights, k=5, lists=17, probes=2, candidates=15, bits=40)
    assert same(*(item.search(queries, 9, weights, approximate=True) for item in (index, loaded)))
    loaded.remove(loaded.ids)
    loaded.save(tmp_path / "empty.codeindex")
    empty = CodeIndex.load(tmp_path / "empty.codeindex", memory_map=memory_map)
    empty.add(base.rows([4, 5]), [4, 5])
    assert empty.search(base.rows([5]), 1, weights, approximate=True).ids.tolist() == [[5]]


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.codeindex"
    index = CodeIndex(drawn(20, 1, PLAIN))
    index.prepare(k=2, lists=3, bits=64)
    index.save(path)
    for name in ("places", "lists"):
        (file,) = path.rglob(f"{name}.npy")
        content = file.read_bytes()
        for place in range(len(content) - 1, 0, -7):
            file.write_bytes(content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :])
            for memory_map in (False, True):
                with pytest.raises(DataError, match="a.codeindex"):
                    CodeIndex.load(path, memory_map=memory_map)
        file.write_bytes(content)
    assert CodeIndex.load(path).recall == index.recall


def test_without_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = drawn(30, 1, PLAIN)
    index = CodeIndex(codes)
    index.prepare(k=2)
    index.save(tmp_path / "a.codeindex")
    expected = index.search(codes, 3)
    monkeypatch.setattr("maxaffine._codes.metric.find_spec", lambda name: None)
    loaded = CodeIndex.load(tmp_path / "a.codeindex")
    assert same(loaded.search(codes, 3), expected) and loaded.recall is None
    with pytest.raises(BadInput, match="not prepared"):
        loaded.search(codes, 3, approximate=True)
    with pytest.raises(MaxAffineError, match=r"approximate search needs faiss.*maxaffine\[search\]"):
        loaded.prepare(k=2)


def test_an_interrupted_preparation_leaves_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    index = CodeIndex(clustered(100, 1))
    before = index.prepare(k=2)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("maxaffine._search.index.settle", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.prepare({"x": 1.0}, k=3)
    assert index.recall == before
    index.search(clustered(3, 2), 2, approximate=True)


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    index = CodeIndex(clustered(100, 1))
    index.prepare(k=2)
    assert capsys.readouterr().err == ""
    index.prepare(k=2, progress=True)
    assert "preparing" in capsys.readouterr().err


def test_bad_input() -> None:
    codes = drawn(20, 0, PLAIN)
    index = CodeIndex(codes)
    assert index.recall is None
    with pytest.raises(BadInput, match=r"not prepared for these weights; call prepare\(weights\)"):
        index.search(codes, 1, approximate=True)
    for name in ("k", "lists", "probes", "candidates", "bits", "threads"):
        for value in (0, -1, True):
            with pytest.raises(BadInput, match=f"{name}="):
                index.prepare(**{name: value})  # pyright: ignore[reportArgumentType]
    for target in (0.0, 1.1, float("nan")):
        with pytest.raises(BadInput, match="recall="):
            index.prepare(recall=target)
    for seed in (-1, 2**31):
        with pytest.raises(BadInput, match="seed="):
            index.prepare(seed=seed)
    one = codes.rows([0])
    short: list[dict[str, Any]] = [{"k": 20}, {"lists": 21}, {"queries": one}, {"k": 21, "queries": codes}]
    for options in short:
        with pytest.raises(BadInput, match="holds 20 rows, too few"):
            index.prepare(**options)
    with pytest.raises(BadInput, match="unknown operators"):
        index.prepare({"gone": 1.0})
    assert index.recall is None, "a refused preparation leaves none behind"
    index.prepare({"pool": 2.0}, k=3)
    with pytest.raises(BadInput, match="not prepared for these weights"):
        index.search(codes, 1, approximate=True)
    index.search(Codes({"pool": codes["pool"]}), 1, {"pool": 1.0}, approximate=True)
    with pytest.raises(BadInput, match="holds 0 rows"):
        CodeIndex(drawn(0, 0)).prepare()
    with pytest.raises(BadInput, match="no operator with a weight has codes"):
        CodeIndex(drawn(9, 0, {"affine": (1, (6,))})).prepare(k=1)


def test_a_real_network() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(36, 3)
    )
    x = load("digits").test.inputs
    codes = ma.capture(model, x[:2]).codes(x)
    index = CodeIndex(codes)
    recall = index.prepare(recall=0.9)
    found = index.search(codes, 5, approximate=True)
    assert torch.equal(found.distances[:, 0], torch.zeros(len(x), dtype=torch.float64))
    exact = index.search(codes, 5)
    assert (found.distances <= exact.distances[:, -1:]).double().mean() > 0.85 and recall.high > 0.9
