"""Code distances of all pairs: the library beside what else counts unequal codes, and the memory it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import faiss
import numpy as np
import torch
from torch import Tensor

import maxaffine
from maxaffine._codes import PackedCodes, distance, pack

from .measure import Failure, in_fresh_process, interleaved, peak_extra_memory

FLOOR, OURS, WITHOUT = "floor", "maxaffine", "maxaffine without faiss"


@dataclass(frozen=True)
class Case:
    """Codes of one operator."""

    title: str
    pieces: int
    units: int
    rows: int
    columns: int

    def build(self) -> tuple[PackedCodes, PackedCodes]:
        """Random codes of both sides."""
        draw = torch.Generator().manual_seed(0)
        shapes = ((self.rows, self.units), (self.columns, self.units))
        a, b = (pack(torch.randint(0, self.pieces, shape, generator=draw), self.pieces) for shape in shapes)
        return a, b


CASES = (
    Case("ReLU, 128 units", 2, 128, 2000, 4000),
    Case("ReLU, 1,568 units", 2, 1568, 1000, 2000),
    Case("ReLU, 12,544 units", 2, 12_544, 500, 1000),
    Case("max-pooling 2 x 2, 3,136 units", 4, 3136, 500, 1000),
    Case("max-pooling 3 x 3, 3,136 units", 9, 3136, 500, 1000),
)


def compare(rounds: int) -> list[dict[str, Any]]:
    """Every case: seconds of each contestant, and the memory that our call adds."""
    results = []
    for number, case in enumerate(CASES):
        row: dict[str, Any] = {"title": case.title, "pairs": [case.rows, case.columns]}
        timings = in_fresh_process(time_case, number, rounds)
        memory = in_fresh_process(memory_of_case, number)
        for outcome in (timings, memory):
            if isinstance(outcome, Failure):
                row["failure"] = outcome.reason
        if "failure" not in row:
            row["timings"] = {name: asdict(timing) for name, timing in timings.items()}
            row["ratios"] = {name: timing.ratio(timings[FLOOR]) for name, timing in timings.items()}
            row["memory_mib"] = memory
        results.append(row)
    return results


def time_case(number: int, rounds: int) -> Any:
    """Interleaved timings of one case, after a check that all agree."""
    faiss.omp_set_num_threads(1)
    a, b = CASES[number].build()
    runs = contestants(a, b)
    expected = runs[OURS]()
    for name, run in runs.items():
        if name != FLOOR:
            torch.testing.assert_close(torch.as_tensor(run()).double(), expected, rtol=0, atol=1e-5)
    return interleaved(runs, rounds)


def memory_of_case(number: int) -> float:
    """Extra MiB of one call, its result included."""
    a, b = CASES[number].build()
    maxaffine.codes.code_distance(a[:1], b[:1])
    return peak_extra_memory(lambda: maxaffine.codes.code_distance(a, b))


def contestants(a: PackedCodes, b: PackedCodes) -> dict[str, Callable[[], Any]]:
    """What to time: all return the distances, but for the floor, which only reads the codes and writes the result."""
    left, right = (codes.unpack().float() for codes in (a, b))
    one_hot = [torch.nn.functional.one_hot(x.long(), a.pieces).float().flatten(1) for x in (left, right)]
    runs = {
        FLOOR: lambda: _floor(a, b),
        OURS: lambda: maxaffine.codes.code_distance(a, b),
        WITHOUT: lambda: _without_faiss(a, b),
        "matrix product": lambda: 1 - (one_hot[0] @ one_hot[1].T) / a.unit_count,
        "torch.cdist, p=0": lambda: torch.cdist(left, right, p=0) / a.unit_count,
    }
    if a.pieces == 2:
        sides = [np.ascontiguousarray(codes.packed[:, 0].numpy()) for codes in (a, b)]
        runs["faiss.hammings"] = lambda: _hammings(*sides) / a.unit_count
    return runs


def _floor(a: PackedCodes, b: PackedCodes) -> np.ndarray:
    first = int(a.packed.numpy().max()) ^ int(b.packed.numpy().max())
    return np.full((len(a), len(b)), float(first))


def _without_faiss(a: PackedCodes, b: PackedCodes) -> Tensor:
    with patch.object(distance, "load_faiss", lambda: None):
        return maxaffine.codes.code_distance(a, b)


def _hammings(a: np.ndarray, b: np.ndarray) -> Tensor:
    found = np.empty((len(a), len(b)), np.int32)
    pointers = [faiss.swig_ptr(array) for array in (a, b, found)]
    faiss.hammings(*pointers[:2], len(a), len(b), a.shape[1], pointers[2])  # type: ignore[attr-defined]
    return torch.from_numpy(found)
