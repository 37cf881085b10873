"""Nearest neighbors in code distance: exact and approximate search beside faiss on the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import faiss
import numpy as np
import torch

import maxaffine
from maxaffine._codes import Codes, PackedCodes

from .measure import Failure, in_fresh_process, interleaved

FLOOR, OURS, APPROXIMATE = "one pass over memory", "maxaffine, exact", "maxaffine, approximate"
KNN_HAMMING, FLAT, IVF = "faiss knn_hamming", "faiss IndexBinaryFlat", "faiss IndexBinaryIVF"
QUERIES, K = 1000, 10


@dataclass(frozen=True)
class Case:
    """Codes of one two-piece operator: noisy copies of prototypes, so that there are neighbors to find."""

    rows: int
    bits: int
    prototypes: int = 1000
    noise: float = 0.15

    @property
    def title(self) -> str:
        """Its name on the page."""
        return f"{self.rows:,} x {self.bits:,} bits"

    def build(self) -> tuple[Codes, Codes]:
        """The rows and the queries."""
        draw = np.random.default_rng(0)
        prototypes = draw.integers(0, 2, (self.prototypes, self.bits), dtype=np.uint8)
        return self._noisy(prototypes, self.rows, draw), self._noisy(prototypes, QUERIES, draw)

    def _noisy(self, prototypes: np.ndarray, count: int, draw: np.random.Generator) -> Codes:
        found = np.empty((count, 1, -(-self.bits // 8)), np.uint8)
        for start in range(0, count, 10_000):
            copied = prototypes[draw.integers(0, len(prototypes), min(10_000, count - start))]
            flipped = copied ^ (draw.random(copied.shape, dtype=np.float32) < self.noise)
            found[start : start + len(copied), 0] = np.packbits(flipped, axis=1, bitorder="little")
        return Codes({"relu": PackedCodes(2, (self.bits,), torch.from_numpy(found))})


CASES = (Case(100_000, 4096), Case(1_000_000, 512), Case(100_000, 1001))


def compare(rounds: int) -> list[dict[str, Any]]:
    """Every case: seconds of each contestant, ratios, and the recall of the approximate ones."""
    results = []
    for number, case in enumerate(CASES):
        row: dict[str, Any] = {"title": case.title}
        outcome = in_fresh_process(time_case, number, rounds)
        results.append(row | ({"failure": outcome.reason} if isinstance(outcome, Failure) else outcome))
    return results


def time_case(number: int, rounds: int) -> dict[str, Any]:
    """Interleaved timings of one case, after a check that the exact contestants agree."""
    faiss.omp_set_num_threads(1)
    base, queries = CASES[number].build()
    index = maxaffine.search.CodeIndex(base)
    recall = index.prepare(k=K)
    rows, asked = (_padded(codes) for codes in (base, queries))
    flat, ivf = _flat(rows), _ivf(rows, recall.lists)
    runs: dict[str, Callable[[], Any]] = {
        FLOOR: lambda: np.bitwise_xor.reduce(rows.view(np.uint64), axis=None),
        OURS: lambda: index.search(queries, K),
        KNN_HAMMING: lambda: faiss.knn_hamming(asked, rows, K),
        FLAT: lambda: flat.search(asked, K),
        APPROXIMATE: lambda: index.search(queries, K, approximate=True),
        IVF: lambda: ivf.search(asked, K),
    }
    exact = index.search(queries, K).distances.numpy() * CASES[number].bits
    distances = {KNN_HAMMING: runs[KNN_HAMMING]()[0], FLAT: runs[FLAT]()[0]}
    for found in distances.values():
        np.testing.assert_allclose(np.sort(found, axis=1), exact, rtol=1e-12)
    found = {APPROXIMATE: runs[APPROXIMATE]().distances.numpy() * CASES[number].bits}
    ivf.nprobe = _probes(ivf, asked, exact, _recall(found[APPROXIMATE], exact))
    found[IVF] = runs[IVF]()[0]
    timings = interleaved(runs, rounds)
    return {
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "over_faiss": {name: timing.ratio(timings[KNN_HAMMING]) for name, timing in timings.items()},
        "recall": {name: _recall(numbers, exact) for name, numbers in found.items()},
        "measured": str(recall),
    }


def _padded(codes: Codes) -> np.ndarray:
    """The same bits as faiss wants them, with zeros up to whole 8-byte words."""
    packed = codes["relu"].packed[:, 0].numpy()
    found = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    found[:, : packed.shape[1]] = packed
    return found


def _flat(rows: np.ndarray) -> Any:
    index = faiss.IndexBinaryFlat(8 * rows.shape[1])
    index.add(rows)  # type: ignore[call-arg]
    return index


def _ivf(rows: np.ndarray, lists: int) -> Any:
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(8 * rows.shape[1]), 8 * rows.shape[1], lists)
    # As many rows as ours, and its own number of rounds.
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 128
    index.train(rows)  # type: ignore[call-arg]
    index.add(rows)  # type: ignore[call-arg]
    return index


def _probes(ivf: Any, asked: np.ndarray, exact: np.ndarray, target: float) -> int:
    """The first power of two of probes with which faiss alone reaches a recall on the queries themselves."""
    probes = 1
    while probes < ivf.nlist:
        ivf.nprobe = probes
        if _recall(ivf.search(asked, K)[0], exact) >= target:
            break
        probes *= 2
    return min(probes, ivf.nlist)


def _recall(found: np.ndarray, exact: np.ndarray) -> float:
    return float((found <= exact[:, -1:] + 1e-9).mean())
