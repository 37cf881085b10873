"""Approximate search: faiss finds rows that are probably near, and the code distance decides between them.

Every row stands in one of faiss's inverted lists of similar rows (`faiss.IndexBinaryIVF`), and a query looks into the
nearest lists only. What stands there is a *sketch* of the row:

- all bits of one operator of at most four pieces. Unequal bits are then unequal units, times a constant (see
  `RowLayout`), so that what faiss finds needs no second look;
- otherwise some bits, drawn so that an operator has as many as its weight asks for. Their distance only estimates the
  code distance, so the rows with the nearest sketches are compared in full.

The distances are exact in both cases. Only which rows are found is approximate, and how often they are the right ones
is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Self

import numpy as np

from maxaffine._codes import RowLayout, RowMetric
from maxaffine._search.nearest import Part, nearest

# Rows that are drawn as queries where none are given.
SAMPLE = 256
# Rows that are sketched at once: their bits are taken apart, a byte for each.
_ROWS = 1 << 13
# Sketches per list that the clustering sees, and its rounds.
_TRAINED, _ROUNDS = 64, 10
# Bits of a sketch: so many of an operator are all taken, else some are drawn.
_WHOLE, _DRAWN = 4096, 1024
# Where the search for enough effort begins, besides one probe: candidates per neighbor.
_FIRST_CANDIDATES = 5
_Z95 = 1.959964


@dataclass(frozen=True)
class Recall:
    """How much of the exact result an approximate search finds, measured on a sample of queries.

    Args:
        value: Mean fraction of the k found rows that are no farther than the exact k-th neighbor.
        low: Lower end of the 95% interval (Wilson's score with the queries as trials, which for fractions is cautious).
        high: Its upper end.
        queries: Number of queries, other ones than those that probes and candidates were chosen by.
        k: Neighbors per query.
        probes: Lists that a query looks into.
        lists: Lists that there are.
        candidates: Rows per query that faiss finds, of which the k nearest are kept.
    """

    value: float
    low: float
    high: float
    queries: int
    k: int
    probes: int
    lists: int
    candidates: int

    @classmethod
    def of(cls, fractions: np.ndarray, k: int, probes: int, candidates: int, lists: int) -> Recall:
        """Summarize the fractions (queries,) that were found."""
        n, p = len(fractions), float(fractions.mean())
        middle, scale = p + _Z95**2 / (2 * n), 1 + _Z95**2 / n
        half = _Z95 * sqrt(p * (1 - p) / n + (_Z95 / (2 * n)) ** 2)
        low, high = max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
        return cls(p, min(low, p), max(high, p), n, k, probes, lists, candidates)

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"recall@{self.k} {self.value:.3f} (95%: {self.low:.3f} to {self.high:.3f}, {self.queries} queries),"
            f" {self.probes} of {self.lists} lists, {self.candidates} candidates"
        )


class Places:
    """Where the row of each id lies."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        rows = [part.alive_rows() for part in parts]
        ids = np.concatenate([np.empty(0, np.int64), *(part.ids[at] for part, at in zip(parts, rows, strict=True))])
        order = np.argsort(ids)
        self.ids = ids[order]
        self._rows = np.concatenate([np.empty(0, np.int64), *rows])[order]
        self._part = np.repeat(np.arange(len(parts)), [len(at) for at in rows])[order]

    def rows(self, ids: np.ndarray, operators: Sequence[int]) -> Part:
        """Copy the rows of some ids, all of which must be there; those of other operators stay empty."""
        at = np.searchsorted(self.ids, ids)
        row, part = self._rows[at], self._part[at]
        found = [np.empty((len(ids), 0), np.uint8)] * len(self.parts[0].rows)
        for i in operators:
            if len(self.parts) == 1:
                found[i] = self.parts[0].rows[i][row]
                continue
            found[i] = np.empty((len(ids), self.parts[0].rows[i].shape[1]), np.uint8)
            for number in np.unique(part).tolist():
                here = part == number
                found[i][here] = self.parts[number].rows[i][row[here]]
        return Part(ids, tuple(found))


@dataclass(frozen=True, eq=False)
class Sketch:
    """Which bits of a row stand for it: (bits, 2) int64, the operator's position and the bit of its row.

    With ``whole`` they are those of one operator's rows as they are, so that equal bits are equal units.
    """

    places: np.ndarray
    whole: bool

    @classmethod
    def draw(cls, metric: RowMetric, bits: int | None, seed: int) -> Sketch:
        """Draw bits: of each operator as many as its weight asks for, over the share that one unequal unit flips."""
        draw, terms = np.random.default_rng(seed), metric.terms
        every = [metric.layouts[i].bit_places() for i in terms]
        if bits is None:
            bits = _WHOLE if len(terms) == 1 and len(every[0]) <= _WHOLE else _DRAWN
        all_once = len(terms) == 1 and len(every[0]) <= bits
        if all_once:
            counts = np.array([len(every[0])])
        else:
            # An operator with fewer bits than its part of the sketch gets each of them several times.
            needed = np.array([metric.shares[i] * _bits_per_flip(metric.layouts[i]) for i in terms])
            counts = np.diff(np.rint(np.cumsum([0.0, *needed]) / needed.sum() * bits).astype(np.int64))
        places = []
        for i, own, count in zip(terms, every, counts, strict=True):
            times, rest = divmod(int(count), len(own))
            chosen = np.sort(np.concatenate([np.tile(own, times), draw.choice(own, rest, replace=False)]))
            places.append(np.stack([np.full(len(chosen), i), chosen], axis=1))
        whole = all_once and metric.layouts[terms[0]].planes == 1
        return cls(np.concatenate(places).astype(np.int64), whole)

    def of(self, part: Part) -> np.ndarray:
        """Sketch rows: (n, width) uint8, in whole 8-byte words, so that no kernel of faiss has bytes left over."""
        if self.whole:
            return np.ascontiguousarray(part.rows[int(self.places[0, 0])])
        found = np.zeros((len(part), -(-len(self.places) // 64) * 8), np.uint8)
        operators = [(i, self.places[self.places[:, 0] == i, 1]) for i in np.unique(self.places[:, 0]).tolist()]
        for start in range(0, len(part), _ROWS):
            block = part.take(slice(start, start + _ROWS))
            bits = [block.rows[i][:, at >> 3] >> (at & 7).astype(np.uint8) & 1 for i, at in operators]
            packed = np.packbits(np.concatenate(bits, axis=1), axis=1, bitorder="little")
            found[start : start + len(block), : packed.shape[1]] = packed
        return found


def _bits_per_flip(layout: RowLayout) -> float:
    """Bits of a unit over those that differ where the unit does: from five pieces on about every second one."""
    return 1.0 if layout.pieces == 2 else 1.5 if layout.pieces <= 4 else 2.0


class Lists:
    """The sketches of all rows in faiss's inverted lists, and how far a query looks.

    Attributes:
        shares: The weights that they were prepared for, w_l / max w per operator.
        probes: Lists that a query looks into.
        candidates: Rows per query that faiss finds.
        recall: What was measured.
    """

    def __init__(self, faiss: Any, sketch: Sketch, shares: tuple[float, ...], ivf: Any) -> None:
        self.shares, self.probes, self.candidates = shares, 1, 1
        self.recall: Recall | None = None
        self._faiss, self._sketch, self._ivf = faiss, sketch, ivf

    @classmethod
    def train(
        cls, faiss: Any, metric: RowMetric, places: Places, count: int, bits: int | None, seed: int, threads: int,
        held_out: np.ndarray,
    ) -> Self:  # fmt: skip
        """Cluster the rows into so many lists; those held out (ids) do not shape them where others are enough."""
        sketch = Sketch.draw(metric, bits, seed)
        ids = np.random.default_rng(seed).permutation(places.ids)
        ids = ids[np.argsort(np.isin(ids, held_out), kind="stable")]
        chosen = sketch.of(places.rows(np.sort(ids[: _TRAINED * count]), metric.terms))
        ivf = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(8 * chosen.shape[1]), 8 * chosen.shape[1], count)
        ivf.cp.seed, ivf.cp.niter = seed, _ROUNDS
        # faiss prints a warning where a list is trained by fewer than the minimum.
        ivf.cp.min_points_per_centroid, ivf.cp.max_points_per_centroid = 1, _TRAINED
        made = cls(faiss, sketch, metric.shares, ivf)
        with _threads(faiss, threads):
            ivf.train(chosen)
        for part in places.parts:
            made.add(part, threads)
        return made

    @property
    def exact(self) -> bool:
        """Whether faiss's distance is the code distance, but for a constant."""
        return self._sketch.whole

    def __len__(self) -> int:
        """Return the number of lists."""
        return self._ivf.nlist

    def add(self, part: Part, threads: int = 1) -> None:
        """Add the rows that were not removed."""
        with _threads(self._faiss, threads):
            for start in range(0, len(part), _ROWS):
                block = part.take(slice(start, start + _ROWS))
                block = block if block.kept is None else block.select(block.alive_rows())
                self._ivf.add_with_ids(self._sketch.of(block), np.ascontiguousarray(block.ids))

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are skipped."""
        self._ivf.remove_ids(self._faiss.IDSelectorBatch(ids))

    def search(
        self, metric: RowMetric, places: Places | None, queries: Part, k: int, threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest candidates of each query, ties by the lower id; exact lists need no places."""
        found, ids = self._candidates(queries, k, threads)
        if places is None or self.exact:
            scale = metric.layouts[metric.terms[0]].scale
            keys = found // scale if scale > 1 else found
            if ids.shape[1] > k:
                keys[ids < 0] = np.iinfo(keys.dtype).max
        else:
            keys, ids = _compare(metric, places, queries, ids, k, threads)
        order = np.arange(len(ids))[:, None], np.lexsort((ids, keys))[:, :k]
        return ids[order], metric.distances(keys[order])

    def _candidates(self, queries: Part, k: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest sketches: unequal bits and ids (queries, at least k), -1 where there are no more."""
        sketches = self._sketch.of(queries)
        count = min(max(self.candidates, k), self._ivf.ntotal)
        with _threads(self._faiss, threads):
            self._ivf.nprobe = probes = min(self.probes, len(self))
            unequal, ids = self._ivf.search(sketches, count)
            # A query whose lists hold fewer than k rows looks into more of them.
            while len(short := np.flatnonzero(ids[:, k - 1] < 0)):
                self._ivf.nprobe = probes = min(2 * probes, len(self))
                unequal[short], ids[short] = self._ivf.search(sketches[short], count)
        return unequal, ids

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `restore` makes the same lists of: words for JSON, and arrays."""
        recall = None if self.recall is None else asdict(self.recall)
        words = {"shares": self.shares, "whole": self._sketch.whole, "recall": recall}
        arrays = {"places": self._sketch.places, "lists": self._faiss.serialize_index_binary(self._ivf)}
        return words | {"probes": self.probes, "candidates": self.candidates}, arrays

    @classmethod
    def restore(cls, faiss: Any, words: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make the lists again whose `state` these are."""
        sketch, ivf = Sketch(arrays["places"], words["whole"]), faiss.deserialize_index_binary(arrays["lists"])
        made = cls(faiss, sketch, tuple(words["shares"]), ivf)
        made.probes, made.candidates = words["probes"], words["candidates"]
        made.recall = None if words["recall"] is None else Recall(**words["recall"])
        return made


@contextmanager
def _threads(faiss: Any, threads: int) -> Iterator[None]:
    """Give faiss so many threads; afterwards it has those that it had."""
    if (before := faiss.omp_get_max_threads()) == threads:
        yield
        return
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _compare(
    metric: RowMetric, places: Places, queries: Part, candidates: np.ndarray, k: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each query with its candidates in full: keys and ids (queries, k) of the nearest."""
    # By id: so they lie on disk, mostly.
    candidates = np.sort(candidates, axis=1)

    def of(number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = places.rows(candidates[number, candidates[number] >= 0], metric.terms)
        keys = metric.keys(queries.take(slice(number, number + 1)).rows, rows.rows)[0]
        order = np.lexsort((rows.ids, keys))[:k]
        return keys[order], rows.ids[order]

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(of, range(len(queries))))
    if not found:
        return np.empty((0, k)), np.empty((0, k), np.int64)
    keys, ids = (np.stack(column) for column in zip(*found, strict=True))
    return keys, ids


@dataclass(frozen=True, eq=False)
class Trial:
    """Queries, and the distance (queries,) of the k-th neighbor of each, itself left out.

    Where the queries are rows of the index, their ids say so, and each finds itself too; else their ids are -1.
    """

    queries: Part
    k: int
    bounds: np.ndarray

    @classmethod
    def exact(
        cls, metric: RowMetric, parts: Sequence[Part], queries: Part, k: int, threads: int, progress: bool | None
    ) -> Self:
        """Search exactly; the arguments are those of `nearest`."""
        ids, distances = nearest(metric, parts, queries, k + _itself(queries), threads, progress)
        return cls(queries, k, _others(ids, distances, queries, k)[:, -1])

    def found(self, run: slice, metric: RowMetric, places: Places, lists: Lists, threads: int) -> np.ndarray:
        """The fraction of what an approximate search finds that is as near as the exact result, for some queries."""
        queries = self.queries.take(run)
        ids, distances = lists.search(metric, places, queries, self.k + _itself(queries), threads)
        return (_others(ids, distances, queries, self.k) <= self.bounds[run, None]).mean(axis=1)


def _itself(queries: Part) -> int:
    return int(queries.ids.max() >= 0)


def _others(ids: np.ndarray, distances: np.ndarray, queries: Part, k: int) -> np.ndarray:
    """Leave each query itself out: the k smallest distances (queries, k) to others."""
    itself = ids == queries.ids[:, None]
    # Stable: what is left stays in order.
    return np.take_along_axis(distances, np.argsort(itself, axis=1, kind="stable"), axis=1)[:, :k]


def settle(
    lists: Lists, metric: RowMetric, places: Places, trial: Trial, target: float, probes: int | None,
    candidates: int | None, threads: int,
) -> Recall:  # fmt: skip
    """Choose probes and candidates that reach a recall, unless they are given, and measure it on other queries."""
    if lists.exact and candidates is None:
        # More of them would change nothing.
        candidates = trial.k
    half = 0 if probes and candidates else len(trial.bounds) // 2
    most = (probes or len(lists), candidates or len(places.ids))
    effort = (probes or 1, candidates or min(_FIRST_CANDIDATES * trial.k, most[1]))

    def reached(effort: tuple[int, int], run: slice) -> np.ndarray:
        lists.probes, lists.candidates = effort
        return trial.found(run, metric, places, lists, threads)

    value = reached(effort, slice(half)).mean() if half else target
    while value < target and effort != most:
        wider, deeper = (min(2 * effort[0], most[0]), effort[1]), (effort[0], min(2 * effort[1], most[1]))
        tried = {choice: reached(choice, slice(half)).mean() for choice in {wider, deeper} - {effort}}
        better = max(tried, key=lambda choice: tried[choice])
        # What helps more; both where neither helps alone.
        effort = better if tried[better] > value else (wider[0], deeper[1])
        value = tried[effort] if effort in tried else reached(effort, slice(half)).mean()
    lists.recall = Recall.of(reached(effort, slice(half, None)), trial.k, *effort, len(lists))
    return lists.recall
