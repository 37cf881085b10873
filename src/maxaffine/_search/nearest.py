"""The scan: distances in blocks that stay in the cache, and the k smallest of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import numpy as np
import torch

from maxaffine._chunks import slices
from maxaffine._codes import RowMetric
from maxaffine._progress import progress_bar

# Distances of one block and bytes of its rows: both stay in a second-level cache.
_BLOCK_PAIRS, _BLOCK_BYTES = 1 << 17, 1 << 19
_QUERIES = 256
# Byte comparisons of one task, about a second: as often progress is shown and Ctrl-C heard.
_TASK_BYTES = 1 << 34
# Rows that are compared with the first one at once.
_COMPARED = 1 << 12
# In place of an id where none is found yet.
NO_ID = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest rows of an index to each of N queries, nearest first, ties by the lower id."""

    ids: torch.Tensor  # (N, k) int64
    distances: torch.Tensor  # (N, k) float64, the code distance
    left_out: tuple[str, ...] = ()  # operators that are not in the distance, as they never switch on the rows


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of an index: ids (n,) int64, and (n, width) uint8 of every operator."""

    ids: np.ndarray
    rows: tuple[np.ndarray, ...]
    # (n,) bool, False where a row was removed; None if none was, so that rows in a file larger than memory need none.
    kept: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of rows, removed ones included."""
        return len(self.ids)

    @property
    def alive(self) -> int:
        """Rows that were not removed."""
        return len(self.ids) if self.kept is None else int(np.count_nonzero(self.kept))

    def alive_rows(self) -> np.ndarray:
        """Return the positions (alive,) of the rows that were not removed."""
        return np.arange(len(self.ids)) if self.kept is None else np.flatnonzero(self.kept)

    def take(self, index: slice) -> Part:
        """Return a run of rows, as views."""
        kept = None if self.kept is None else self.kept[index]
        return Part(self.ids[index], tuple(rows[index] for rows in self.rows), kept)

    def compact(self) -> Part:
        """Return the rows that were not removed, as copies where others were."""
        return self if self.kept is None else Part(self.ids[self.kept], tuple(rows[self.kept] for rows in self.rows))

    def join(self, other: Part) -> Part:
        """Return the rows of both, as copies; of neither any was removed."""
        rows = tuple(np.concatenate(pair) for pair in zip(self.rows, other.rows, strict=True))
        return Part(np.concatenate([self.ids, other.ids]), rows)

    def without(self, gone: np.ndarray) -> Part:
        """Mark rows (n,) bool as removed; the rows themselves are shared."""
        return replace(self, kept=~gone if self.kept is None else self.kept & ~gone)


class Best:
    """The k smallest keys of each query so far, ties by the lower id; those added last may still wait for `settle`."""

    def __init__(self, queries: int, k: int, dtype: np.dtype) -> None:
        worst = np.inf if dtype.kind == "f" else np.iinfo(dtype).max
        self.keys = np.full((queries, k), worst, dtype)
        self.ids = np.full((queries, k), NO_ID)
        # Candidates as (query, key, id): sorting them in rarely costs less than sorting them in at once.
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._count = 0

    def add(self, keys: np.ndarray, ids: np.ndarray) -> None:
        """Let rows with these keys (queries, m) compete; ids are (m,), or (queries, m) where each query has its own."""
        queries, k = self.keys.shape
        if not queries:
            return
        bound = self.keys[:, -1]
        if self.ids[0, -1] == NO_ID and keys.shape[1] > k:
            # Still filling up: only the k smallest of this block can win.
            bound = np.minimum(bound, np.partition(keys, k - 1, axis=1)[:, k - 1])
        places = np.flatnonzero(keys <= bound[:, None])
        if not len(places):
            return
        # A flat comparison and a division are several times faster than nonzero in two dimensions.
        query, column = np.divmod(places, keys.shape[1])
        values = keys.reshape(-1)[places]
        found = ids[column] if ids.ndim == 1 else ids.reshape(-1)[places]
        # At the bound itself a row wins by a lower id than that of the k-th.
        wins = (values < self.keys[query, -1]) | (found < self.ids[query, -1])
        self._waiting.append((query[wins], values[wins], found[wins]))
        self._count += len(places)
        if self._count > queries * k or self.ids[0, -1] == NO_ID:
            self.settle()

    def settle(self) -> None:
        """Sort in the candidates that wait."""
        if not self._waiting:
            return
        query, values, found = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        self._waiting, self._count = [], 0
        k = self.keys.shape[1]
        touched = np.unique(query)
        queries = np.concatenate([np.repeat(touched, k), query])
        values = np.concatenate([self.keys[touched].reshape(-1), values])
        found = np.concatenate([self.ids[touched].reshape(-1), found])
        # Sorted by query, key and id, so that what a query keeps are the first k of its run.
        order = np.lexsort((found, values, queries))
        starts = np.searchsorted(queries[order], touched)
        first = order[starts[:, None] + np.arange(k)]
        self.keys[touched], self.ids[touched] = values[first], found[first]


def never_switches(parts: Sequence[Part], operator: int) -> bool:
    """Tell whether all rows that were not removed share one code of an operator."""
    first: np.ndarray | None = None
    for part in parts:
        for run in slices(len(part), _COMPARED):
            block = part.take(run)
            rows = block.rows[operator] if block.kept is None else block.rows[operator][block.kept]
            if first is None and len(rows):
                first = rows[:1]
            if first is not None and (rows != first).any():
                return False
    return True


def nearest(
    metric: RowMetric, parts: Sequence[Part], queries: Part, k: int, threads: int, progress: bool | None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows nearest to each query: ids and distances (queries, k), ties by the lower id."""
    dtype = np.dtype(np.int32 if len(metric.terms) == 1 else np.float64)
    chunks = [queries.take(run) for run in slices(len(queries), _QUERIES)] or [queries]
    best = [Best(len(chunk), k, dtype) for chunk in chunks]
    # One task per run: at least as many as threads, and none that takes long.
    size = min(_TASK_BYTES // max(1, metric.width * min(len(queries), _QUERIES)), -(-sum(map(len, parts)) // threads))
    runs = [part.take(run) for part in parts for run in slices(len(part), size)]
    total = len(queries) * sum(map(len, runs))
    bar = progress_bar(progress, "searching", unit="pair", unit_scale=True, total=total)
    with bar, ThreadPoolExecutor(threads) as pool:
        tasks = {
            pool.submit(_scan, metric, run, chunk, k, dtype): (i, len(run) * len(chunk))
            for i, chunk in enumerate(chunks)
            for run in runs
        }
        try:
            for task in as_completed(tasks):
                i, pairs = tasks[task]
                found = task.result()
                best[i].add(found.keys, found.ids)
                bar.update(pairs)
        except BaseException:
            # Ctrl-C: what has not begun never does.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for item in best:
        item.settle()
    keys = np.concatenate([item.keys for item in best])
    return np.concatenate([item.ids for item in best]), metric.distances(keys)


def _scan(metric: RowMetric, rows: Part, queries: Part, k: int, dtype: np.dtype) -> Best:
    best = Best(len(queries), k, dtype)
    # Rows that several queries read stay in the cache between them; a single query reads each once.
    by_cache = _BLOCK_BYTES // max(1, metric.width) if len(queries) > 1 else _BLOCK_PAIRS
    for run in slices(len(rows), min(_BLOCK_PAIRS // max(1, len(queries)), by_cache)):
        block = rows.take(run)
        keys, ids = metric.keys(queries.rows, block.rows), block.ids
        if block.kept is not None:
            keys, ids = keys[:, block.kept], ids[block.kept]
        best.add(keys, ids)
    best.settle()
    return best
