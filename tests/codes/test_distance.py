"""The code distance against a loop over units, and the properties that make it a pseudo-metric."""

import itertools
import tracemalloc
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxaffine._codes import Codes, PackedCodes, code_distance, code_distance_blocks, distance, metric, pack
from maxaffine.errors import BadInput
from tests.search.drawn import drawn

LAYOUT = {"relu": (2, (70,)), "pool": (9, (3, 5)), "wide": (300, (2, 2)), "affine": (1, (6,)), "nothing": (2, (0,))}


def random_codes(batch: int, seed: int) -> Codes:
    return drawn(batch, seed, LAYOUT)


def naive_distance(a: Codes, b: Codes, weights: dict[str, float]) -> list[list[float]]:
    """One unit of one pair at a time, at the operators that can switch."""

    def differing(x: list[int], y: list[int]) -> float:
        return 1 - sum(p == q for p, q in zip(x, y, strict=True)) / len(x)

    weights = {name: weight for name, weight in weights.items() if a[name].pieces > 1 and a[name].unit_count}
    rows = {name: [[row.flatten().tolist() for row in c[name].unpack()] for c in (a, b)] for name in weights}
    return [
        [
            sum(w * differing(rows[name][0][n], rows[name][1][m]) for name, w in weights.items())
            / (sum(weights.values()) or 1.0)
            for m in range(b.batch)
        ]
        for n in range(a.batch)
    ]


weight = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))


@given(st.integers(0, 5), st.integers(0, 5), st.lists(weight, min_size=5, max_size=5).filter(any), st.integers(0, 1000))
def test_equals_the_loop(na: int, nb: int, weights: list[float], seed: int) -> None:
    a, b = random_codes(na, seed), random_codes(nb, seed + 1)
    named = dict(zip(LAYOUT, weights, strict=True))
    found = code_distance(a, b, weights=weights)
    assert found.dtype == torch.float64 and found.shape == (na, nb)
    np.testing.assert_allclose(found.numpy().tolist(), naive_distance(a, b, named), rtol=0, atol=1e-12)
    assert torch.equal(found, code_distance(a, b, weights=named))
    np.testing.assert_allclose(
        code_distance(a, b).numpy().tolist(), naive_distance(a, b, dict.fromkeys(LAYOUT, 1.0)), rtol=0, atol=1e-12
    )


@given(st.integers(0, 1000), st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5))
def test_pseudo_metric(seed: int, weights: list[float]) -> None:
    codes = random_codes(8, seed)
    d = code_distance(codes, codes, weights)
    ids = codes.region_ids()
    assert torch.equal(d, d.T)
    assert torch.equal(d == 0, ids[:, None] == ids[None])
    assert d.min() >= 0 and d.max() <= 1
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-12).all()


def test_opposite_codes_are_at_distance_exactly_one() -> None:
    codes = torch.rand(3, 77) > 0.5
    a = Codes.from_tensors({name: (codes, 2) for name in "abc"})
    b = Codes.from_tensors({name: (~codes, 2) for name in "abc"})
    assert code_distance(a, b, [0.1, 0.7, 0.2]).diagonal().tolist() == [1.0, 1.0, 1.0]


@pytest.fixture(params=["numpy", "numpy 1", "faiss"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "faiss":
        monkeypatch.setattr(distance, "load_faiss", lambda: None)
    if request.param == "numpy 1":
        monkeypatch.setattr(metric, "_popcount", metric._table_popcount)
    return request.param


@pytest.mark.parametrize("pieces", [2, 3, 4, 5, 7, 8, 9, 16, 17, 300])
def test_every_backend_counts_units(backend: str, pieces: int) -> None:
    for few, units in itertools.product((3, 11), (1, 7, 8, 9, 63, 64, 65, 200)):
        generator = torch.Generator().manual_seed(units)
        a, b = (torch.randint(0, pieces, (n, units), generator=generator) for n in (few, 6))
        b[3] = a[2]
        expected = (a[:, None] != b[None]).double().mean(2)
        torch.testing.assert_close(code_distance(pack(a, pieces), pack(b, pieces)), expected, rtol=0, atol=1e-15)


def test_faiss_is_asked_where_it_is_installed(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    hammings = faiss.hammings  # type: ignore[attr-defined]
    monkeypatch.setattr(faiss, "hammings", lambda *arguments: (asked.append(1), hammings(*arguments)))
    codes = random_codes(3, 0)
    code_distance(codes, codes)
    assert bool(asked) == (backend == "faiss")


@pytest.mark.parametrize(("height", "width"), [(1, 4), (3, 1), (5, 5), (11, 3)])
def test_tiles_do_not_show(backend: str, height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random_codes(11, 0), random_codes(13, 1)
    whole = code_distance(a, b)
    monkeypatch.setattr(distance, "_TILE_ROWS", height)
    monkeypatch.setattr(distance, "_TILE_COLUMNS", width)
    monkeypatch.setattr(distance, "_BLOCK_NUMBERS", 26)
    assert torch.equal(code_distance(a, b), whole)
    monkeypatch.setattr(distance, "_TILE_WORDS", 1)
    assert torch.equal(code_distance(a, b), whole)


@given(st.integers(0, 7), st.integers(0, 7), st.integers(1, 9), st.integers(0, 100))
def test_blocks_are_the_rows(na: int, nb: int, rows: int, seed: int) -> None:
    a, b = random_codes(na, seed), random_codes(nb, seed + 1)
    whole, seen = code_distance(a, b, [1.0, 2.0, 3.0, 4.0, 5.0]), 0
    for block, part in code_distance_blocks(a, b, [1.0, 2.0, 3.0, 4.0, 5.0], rows=rows):
        assert block.start == seen and 0 < block.stop - block.start <= rows
        assert torch.equal(part, whole[block])
        seen = block.stop
    assert seen == na


def test_blocks_hold_little_memory(backend: str) -> None:
    """The reduction that 60,000 x 60,000 needs, on fewer inputs: whole, the distances would take 30 MiB."""
    generator = torch.Generator().manual_seed(0)
    codes = Codes.from_tensors(
        {
            "relu": (torch.rand(2000, 130, generator=generator) > 0.5, 2),
            "pool": (torch.randint(0, 4, (2000, 20), generator=generator), 4),
        }
    )
    tracemalloc.start()
    nearest = torch.empty(2000, dtype=torch.float64)
    for block, part in code_distance_blocks(codes, codes, rows=50):
        nearest[block] = part.topk(2, largest=False).values[:, 1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    whole = code_distance(codes, codes)
    peak_of_all = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(nearest, whole.topk(2, largest=False).values[:, 1])
    assert peak < 10 * 2**20 < 30 * 2**20 < peak_of_all


def test_tiles_are_bounded_for_wide_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    unequal_units = metric.RowLayout.unequal_units

    def spy(layout: metric.RowLayout, a: np.ndarray, b: np.ndarray, faiss: Any) -> np.ndarray:
        sizes.append(b.size // 8)
        return unequal_units(layout, a, b, faiss)

    monkeypatch.setattr(metric.RowLayout, "unequal_units", spy)
    codes = pack(torch.rand(300, 100_000) > 0.5, 2)
    code_distance(codes[:3], codes)
    assert len(sizes) > 1 and max(sizes) <= distance._TILE_WORDS


def test_a_result_larger_than_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = random_codes(1, 0).rows([0] * 60_000)
    monkeypatch.setattr(distance, "_memory", lambda: 2**34)
    with pytest.raises(BadInput, match=r"26\.8 GiB and the machine has 16\.0 GiB; iterate over code_distance_blocks"):
        code_distance(codes, codes)
    _, block = next(code_distance_blocks(codes, codes))
    assert block.shape == (139, 60_000) and not block.any()


def test_errors_of_blocks_come_before_the_first() -> None:
    codes = random_codes(2, 0)
    with pytest.raises(BadInput, match="all zero"):
        code_distance_blocks(codes, codes, [0.0] * 5)
    for count in (0, -1, True):
        with pytest.raises(BadInput, match="rows="):
            code_distance_blocks(codes, codes, rows=count)


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(metric.RowLayout, "unequal_units", broken)
    with pytest.raises(MemoryError, match="no more"):
        code_distance(random_codes(2, 0), random_codes(2, 1))


def test_one_operator() -> None:
    a, b = random_codes(4, 0), random_codes(3, 1)
    only = {name: float(name == "pool") for name in LAYOUT}
    assert torch.equal(code_distance(a["pool"], b["pool"]), code_distance(a, b, only))
    assert torch.equal(code_distance(a, b, {"pool": 2.5}), code_distance(a["pool"], b["pool"]))
    assert torch.equal(code_distance(a["affine"], b["affine"]), torch.zeros(4, 3, dtype=torch.float64))


def test_rows_in_the_middle_of_a_tensor() -> None:
    a, b = random_codes(9, 0), random_codes(9, 1)
    assert torch.equal(
        code_distance(a.rows(slice(3, 7)), b.rows(slice(8, 1, -3))), code_distance(a, b)[3:7][:, [8, 5, 2]]
    )


def test_no_operators() -> None:
    assert code_distance(Codes({}, batch=2), Codes({}, batch=3)).tolist() == [[0.0] * 3] * 2


def test_huge_weights_do_not_overflow() -> None:
    a, b = random_codes(2, 0), random_codes(2, 1)
    torch.testing.assert_close(code_distance(a, b, [1.7e308] * 5), code_distance(a, b))


def test_the_smallest_weight_still_tells_regions_apart() -> None:
    a, b = (
        Codes.from_tensors({"wide": (row, 2), "one": (torch.zeros(1, 1).long(), 2)})
        for row in torch.eye(1000)[:2, None].long()
    )
    found = code_distance(a, b, {"wide": 1e-200, "one": 1.0})
    assert found.item() == pytest.approx(2e-203) and found.item() > 0


def test_a_flipped_bit_is_noticed() -> None:
    packed = pack(torch.randint(0, 16, (1, 1000)), 16)
    for plane in range(4):
        damaged = packed.packed.clone()
        damaged[0, plane, 124] ^= 128
        assert code_distance(packed, PackedCodes(16, (1000,), damaged)).item() == 1 / 1000


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"relu": 1.0, "typo": 1.0}, r"unknown operators \['typo'\]"),
        ([1.0, 2.0], "2 entries for 5 operators"),
        ([1.0, 1.0, -1.0, 1.0, 1.0], "at least 0"),
        ({"relu": float("nan")}, "finite"),
        ({"relu": float("inf")}, "finite"),
        ([0.0] * 5, "all zero"),
        ({}, "all zero"),
        ({"relu": 1e-300, "pool": 1e300}, "less far apart"),
        ({"relu": 1e-320, "pool": 1.0}, "less far apart"),
    ],
)
def test_weights_are_checked(weights: dict[str, float] | list[float], message: str) -> None:
    codes = random_codes(2, 0)
    with pytest.raises(BadInput, match=message):
        code_distance(codes, codes, weights)


def test_refuses_other_operators() -> None:
    codes = random_codes(2, 0)
    with pytest.raises(BadInput, match="'pool': absent instead of"):
        code_distance(codes, Codes({name: codes[name] for name in codes if name != "pool"}))
    with pytest.raises(BadInput, match="a is Codes and b is PackedCodes"):
        code_distance(codes, codes["relu"])
    with pytest.raises(BadInput, match="b holds other operators"):
        code_distance(codes["pool"], codes["relu"])
