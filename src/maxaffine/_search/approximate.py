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

from maxaffine._chunks import slices
from maxaffine._codes import RowLayout, RowMetric
from maxaffine._search.nearest import Part, nearest

# Rows that are drawn as queries where none are given.
SAMPLE = 256
# Rows that are sketched at once: their bits are taken apart, a byte for each.
_ROWS = 1 << 13
# Sketches per list that the clustering sees, and its rounds. Of 1,001 bits in 316 lists, one probe found 0.964 at the
# mean of five seeds, in ten rounds as much, in four 0.953; with half the sketches 0.937 in four, 0.941 in ten.
_TRAINED, _ROUNDS = 128, 6
# Bits of a sketch: so many of an operator are all taken, else some are drawn.
_WHOLE, _DRAWN = 4096, 1024
# Where the search for enough effort begins, besides one probe: candidates per neighbor.
_FIRST_CANDIDATES = 5
_Z95 = 1.959964


@dataclass(frozen=True)
class Recall:
    """How much of the exact result an approximate search finds, measured on a sample of queries."""

    value: float  # mean fraction of the k found rows that are no farther than the exact k-th neighbor
    # Ends of the 95% interval: Wilson's score with the queries as trials, which for fractions is cautious.
    low: float
    high: float
    queries: int  # number of queries, other ones than those that probes and candidates were chosen by
    k: int  # neighbors per query
    probes: int  # lists that a query looks into
    lists: int  # lists that there are
    candidates: int  # rows per query that faiss finds, of which the k nearest are kept

    @classmethod
    def of(cls, fractions: np.ndarray, k: int, probes: int, candidates: int, lists: int) -> Recall:
        """Summarize the fractions (queries,) that were found."""
        # Wilson's interval holds those p' that a sample of mean p does not reject: |p - p'| <= z sqrt(p' (1 - p') / n).
        n, p = len(fractions), float(fractions.mean())
        middle, scale = p + _Z95**2 / (2 * n), 1 + _Z95**2 / n
        half = _Z95 * sqrt(p * (1 - p) / n + (_Z95 / (2 * n)) ** 2)
        low, high = max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
        return cls(p, min(low, p), max(high, p), n, k, probes, lists, candidates)

    def __str__(self) -> str:
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
            found[i] = np.empty((len(ids), self.parts[0].rows[i].shape[1]), np.uint8)
            for number in np.unique(part).tolist():
                here = part == number
                found[i][here] = self.parts[number].rows[i][row[here]]
        return Part(ids, tuple(found))


@dataclass(frozen=True, eq=False)
class Sketch:
    """Which bits of a row stand for it."""

    # (bits, 2) int64: the operator's position and the bit of its row.
    places: np.ndarray
    # Whether they are those of one operator's rows as they are, so that equal bits are equal units.
    whole: bool

    @classmethod
    def draw(cls, metric: RowMetric, bits: int | None, seed: int) -> Sketch:
        """Draw bits: of each operator as many as its weight asks for, over the share that one unequal unit flips."""
        draw, terms = np.random.default_rng(seed), metric.terms
        every = [metric.layouts[i].bit_places() for i in terms]
        if bits is None:
            bits = _WHOLE if len(terms) == 1 and len(every[0]) <= _WHOLE else _DRAWN
        if len(terms) == 1:
            counts = np.array([min(bits, len(every[0]))])
        else:
            # Rounded as running sums, so that the counts add up to the bits.
            needed = np.array([metric.shares[i] * _bits_per_flip(metric.layouts[i]) for i in terms])
            counts = np.diff(np.rint(np.cumsum([0.0, *needed]) / needed.sum() * bits).astype(np.int64))
        places = []
        for i, own, count in zip(terms, every, counts, strict=True):
            # An operator with fewer bits than its part of the sketch gets each of them several times.
            times, rest = divmod(int(count), len(own))
            chosen = np.sort(np.concatenate([np.tile(own, times), draw.choice(own, rest, replace=False)]))
            places.append(np.stack([np.full(len(chosen), i), chosen], axis=1))
        whole = len(terms) == 1 and counts[0] == len(every[0]) and metric.layouts[terms[0]].planes == 1
        return cls(np.concatenate(places).astype(np.int64), bool(whole))

    def of(self, part: Part) -> np.ndarray:
        """Sketch rows: (n, width) uint8, in whole 8-byte words, so that no kernel of faiss has bytes left over."""
        if self.whole:
            return np.ascontiguousarray(part.rows[int(self.places[0, 0])])
        found = np.zeros((len(part), -(-len(self.places) // 64) * 8), np.uint8)
        operators = [(i, self.places[self.places[:, 0] == i, 1]) for i in np.unique(self.places[:, 0]).tolist()]
        for run in slices(len(part), _ROWS):
            # Bit j of byte i is the place 8 i + j.
            bits = [part.rows[i][run, at >> 3] >> (at & 7).astype(np.uint8) & 1 for i, at in operators]
            packed = np.packbits(np.concatenate(bits, axis=1), axis=1, bitorder="little")
            found[run, : packed.shape[1]] = packed
        return found


def _bits_per_flip(layout: RowLayout) -> float:
    """Bits of a unit over those that differ where the unit does: from five pieces on about every second one."""
    return 1.0 if layout.pieces == 2 else 1.5 if layout.pieces <= 4 else 2.0


@dataclass(eq=False)
class Lists:
    """The sketches of all rows in faiss's inverted lists, for some weights w_l / max w, and how far a query looks."""

    faiss: Any
    sketch: Sketch
    shares: tuple[float, ...]
    ivf: Any
    probes: int = 1
    candidates: int = 1
    recall: Recall | None = None

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
        with _threads(faiss, threads):
            ivf.train(chosen)
        lists = cls(faiss, sketch, metric.shares, ivf)
        for part in places.parts:
            lists.add(part, threads)
        return lists

    def add(self, part: Part, threads: int = 1) -> None:
        """Add the rows that were not removed."""
        with _threads(self.faiss, threads):
            for run in slices(len(part), _ROWS):
                block = part.take(run).compact()
                self.ivf.add_with_ids(self.sketch.of(block), np.ascontiguousarray(block.ids))

    def remove(self, ids: np.ndarray) -> None:
        """Remove rows; ids that are not there are skipped."""
        self.ivf.remove_ids(self.faiss.IDSelectorBatch(ids))

    def search(
        self, metric: RowMetric, places: Places | None, queries: Part, k: int, threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest candidates of each query, ties by the lower id; whole sketches need no places."""
        found, ids = self._candidates(queries, k, threads)
        if places is None or self.sketch.whole:
            # faiss's distance is the code distance, but for a constant, and its order ours: ties by the lower id.
            found, ids = found[:, :k], ids[:, :k]
            scale = metric.layouts[metric.terms[0]].scale
            return ids, metric.distances(found // scale if scale > 1 else found)
        # By id: so they lie on disk, mostly.
        ids = np.sort(ids, axis=1)

        def compare(number: int) -> tuple[np.ndarray, np.ndarray]:
            rows = places.rows(ids[number, ids[number] >= 0], metric.terms)
            keys = metric.keys(queries.take(slice(number, number + 1)).rows, rows.rows)[0]
            order = np.lexsort((rows.ids, keys))[:k]
            return rows.ids[order], keys[order]

        with ThreadPoolExecutor(threads) as pool:
            nearest = list(pool.map(compare, range(len(queries))))
        ids = np.concatenate([np.empty(0, np.int64), *(near for near, _ in nearest)]).reshape(-1, k)
        keys = np.concatenate([np.empty(0), *(keys for _, keys in nearest)]).reshape(-1, k)
        return ids, metric.distances(keys)

    def _candidates(self, queries: Part, k: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest sketches: unequal bits and ids (queries, at least k), -1 where there are no more."""
        sketches = self.sketch.of(queries)
        count = min(max(self.candidates, k), self.ivf.ntotal)
        with _threads(self.faiss, threads):
            self.ivf.nprobe = probes = min(self.probes, self.ivf.nlist)
            unequal, ids = self.ivf.search(sketches, count)
            # A query whose lists hold fewer than k rows looks into more of them.
            while len(short := np.flatnonzero(ids[:, k - 1] < 0)):
                self.ivf.nprobe = probes = min(2 * probes, self.ivf.nlist)
                unequal[short], ids[short] = self.ivf.search(sketches[short], count)
        return unequal, ids

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `restore` makes the same lists of: words for JSON, and arrays."""
        recall = None if self.recall is None else asdict(self.recall)
        words = {"shares": self.shares, "whole": self.sketch.whole, "recall": recall}
        arrays = {"places": self.sketch.places, "lists": self.faiss.serialize_index_binary(self.ivf)}
        return words | {"probes": self.probes, "candidates": self.candidates}, arrays

    @classmethod
    def restore(cls, faiss: Any, words: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make the lists again whose `state` these are."""
        sketch, ivf = Sketch(arrays["places"], words["whole"]), faiss.deserialize_index_binary(arrays["lists"])
        recall = None if words["recall"] is None else Recall(**words["recall"])
        return cls(faiss, sketch, tuple(words["shares"]), ivf, words["probes"], words["candidates"], recall)


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


def settle(
    lists: Lists, metric: RowMetric, places: Places, queries: Part, k: int, target: float, probes: int | None,
    candidates: int | None, threads: int, progress: bool | None,
) -> Recall:  # fmt: skip
    """Choose probes and candidates that reach a recall, unless they are given, and measure it on other queries."""
    # Queries that are rows of the index have their ids, and each finds itself too; the ids of others are -1.
    more = k + int(queries.ids.max() >= 0)

    def others(ids: np.ndarray, distances: np.ndarray, run: slice) -> np.ndarray:
        # Stable: without the query itself, the k smallest distances stay in order.
        order = np.argsort(ids == queries.ids[run, None], axis=1, kind="stable")
        return np.take_along_axis(distances, order, axis=1)[:, :k]

    bounds = others(*nearest(metric, places.parts, queries, more, threads, progress), slice(None))[:, -1:]

    def reach(effort: tuple[int, int], run: slice) -> np.ndarray:
        # The fraction of what is found that is no farther than the exact k-th neighbor, for some queries.
        lists.probes, lists.candidates = effort
        found = lists.search(metric, places, queries.take(run), more, threads)
        return (others(*found, run) <= bounds[run]).mean(axis=1)

    if lists.sketch.whole and candidates is None:
        # More of them would change nothing.
        candidates = k
    half = slice(0 if probes and candidates else len(bounds) // 2)
    most = (probes or lists.ivf.nlist, candidates or len(places.ids))
    effort = (probes or 1, candidates or min(_FIRST_CANDIDATES * k, most[1]))
    value = reach(effort, half).mean() if half.stop else target
    while value < target and effort != most:
        wider, deeper = (min(2 * effort[0], most[0]), effort[1]), (effort[0], min(2 * effort[1], most[1]))
        tried = {choice: reach(choice, half).mean() for choice in {wider, deeper} - {effort}}
        better = max(tried, key=lambda choice: tried[choice])
        # What helps more; both where neither helps alone.
        effort = better if tried[better] > value else (wider[0], deeper[1])
        value = tried[effort] if effort in tried else reach(effort, half).mean()
    fractions = reach(effort, slice(half.stop, None))
    lists.recall = recall = Recall.of(fractions, k, effort[0], effort[1], lists.ivf.nlist)
    return recall
