"""The measuring itself: a benchmark that misreports is worse than none."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from benchmarks import search
from benchmarks.floors import input_gradients, layer_calls, work
from benchmarks.measure import MIB, Failure, Timing, in_fresh_process, interleaved, peak_extra_memory


def passing_peak() -> float:
    """Extra memory of a call that holds 300 MiB for a moment and returns next to nothing."""
    return peak_extra_memory(lambda: float(torch.ones(300 * MIB // 4).sum()))


def test_memory_sees_a_passing_peak() -> None:
    torch.ones(400 * MIB // 4)  # an earlier, higher peak that must not hide the later one
    assert 295 < passing_peak() < 330


def test_failures_come_back_with_their_reason() -> None:
    assert in_fresh_process(bytearray, 13 * 2**30) == Failure("out of memory at 12 GiB")
    assert in_fresh_process(os._exit, 1) == Failure("the process was killed")


def test_contestants_take_turns() -> None:
    order: list[str] = []
    timings = interleaved({name: lambda n=name: order.append(n) for name in "abc"}, rounds=3, seconds=0)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert all(len(timing.cpu) == len(timing.wall) == 3 for timing in timings.values())


def test_ratios_pair_the_rounds() -> None:
    slow, fast = Timing([2.0, 20.0, 3.0], []), Timing([1.0, 10.0, 1.0], [])
    assert slow.ratio(fast) == 2.0


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_floor_counts_every_product_once(at_once: bool, channels_last: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 7))
    inputs = torch.randn(2, 1, 6, 6)
    assert [call.output_shape for call in layer_calls(model, inputs)] == [(3, 4, 4), (5,), (7,)]
    input_gradients(model, inputs, 4, at_once, channels_last)()
    # 2 samples x 4 outputs x 2 x (conv 16 places x 3 x 9, linear 48 x 5, last linear 5 x 4 chosen outputs)
    assert work(model, inputs, 4)["gflop"] == pytest.approx(8 * 2 * (16 * 27 + 240 + 20) / 1e9)


def test_searches_are_compared_on_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CASES", (search.Case(400, 77, prototypes=20),))
    row = search.time_case(0, 1)
    assert set(row["timings"]) == set(row["over_faiss"]) and row["over_faiss"][search.KNN_HAMMING] == 1
    assert 0.5 < row["recall"][search.APPROXIMATE] <= 1 and row["measured"].startswith("recall@10 ")


def test_a_wrong_exact_search_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CASES", (search.Case(400, 77, prototypes=20),))
    padded = search._padded
    monkeypatch.setattr(search, "_padded", lambda codes: padded(codes) & 0x7F)
    with pytest.raises(AssertionError):
        search.time_case(0, 1)
