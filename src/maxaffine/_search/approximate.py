"""Approximate search: candidates from lists of sketches, compared in full.

The distances that it gives are exact; only which rows are found is approximate, and how often they are the right ones
is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from maxaffine._search.lists import Lists
from maxaffine._search.nearest import Metric, Part, nearest
from maxaffine._search.recall import Recall

# Rows that are drawn as queries where none are given.
SAMPLE = 256
# Where the search for enough effort begins, besides one probe: candidates per neighbor.
_FIRST_CANDIDATES = 10


class Places:
    """Where the row of each id lies.

    Args:
        parts: The rows.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        rows = [part.alive_rows() for part in parts]
        ids = np.concatenate([np.empty(0, np.int64), *(part.ids[at] for part, at in zip(parts, rows, strict=True))])
        order = np.argsort(ids)
        self._ids = ids[order]
        self._rows = np.concatenate([np.empty(0, np.int64), *rows])[order]
        self._part = np.repeat(np.arange(len(parts)), [len(at) for at in rows])[order]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._ids)

    def runs(self, ids: np.ndarray) -> Iterator[Part]:
        """Yield the rows of some ids, all of which must be there, part after part."""
        at = np.searchsorted(self._ids, ids)
        if len(self._parts) == 1:
            yield self._parts[0].chosen(np.sort(self._rows[at]))
            return
        for number in np.unique(self._part[at]).tolist():
            yield self._parts[number].chosen(np.sort(self._rows[at[self._part[at] == number]]))

    def sample(self, count: int, seed: int) -> Part:
        """Draw rows at random."""
        draw = np.random.default_rng(seed)
        runs = [*self.runs(draw.permutation(self._ids)[:count])]
        rows = tuple(np.concatenate(arrays) for arrays in zip(*(run.rows for run in runs), strict=True))
        drawn = Part(np.concatenate([run.ids for run in runs]), rows)
        # In random order too: the runs are in the index's, which may be sorted by class.
        return drawn.chosen(draw.permutation(len(drawn)))


def compared(
    metric: Metric, places: Places, queries: Part, candidates: np.ndarray, k: int, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest among each query's candidates.

    Args:
        metric: The distance.
        places: Where the rows lie.
        queries: N queries.
        candidates: (N, m) ids, at least k of each query at least 0.
        k: How many to find.
        threads: Threads that compare.

    Returns:
        ids (N, k) int64 and distances (N, k) float64, nearest first, ties by the lower id.
    """

    def of(number: int) -> tuple[np.ndarray, np.ndarray]:
        query = queries.take(slice(number, number + 1))
        runs = [*places.runs(candidates[number, candidates[number] >= 0])]
        ids = np.concatenate([run.ids for run in runs])
        keys = np.concatenate([metric.keys(query, run)[0] for run in runs])
        order = np.lexsort((ids, keys))[:k]
        return ids[order], keys[order]

    with ThreadPoolExecutor(threads) as pool:
        found = [*pool.map(of, range(len(queries)))]
    if not found:
        return np.empty((0, k), np.int64), np.empty((0, k))
    ids, keys = (np.stack(column) for column in zip(*found, strict=True))
    return ids, metric.distances(keys)


@dataclass(frozen=True, eq=False)
class Trial:
    """Queries with the distance within which their exact neighbors lie.

    Args:
        queries: Their rows; the id of one that is a row of the index itself, else -1.
        k: Neighbors of each, itself left out.
        bounds: (queries,) float64, the distance of the k-th.
    """

    queries: Part
    k: int
    bounds: np.ndarray

    @classmethod
    def exact(
        cls, metric: Metric, parts: Sequence[Part], queries: Part, k: int, threads: int, progress: bool | None
    ) -> Trial:
        """Search exactly; the arguments are those of `nearest`."""
        ids, distances = nearest(metric, parts, queries, k + _itself(queries), threads, progress)
        return cls(queries, k, _others(ids, distances, queries.ids, k)[:, -1])

    def take(self, index: slice) -> Trial:
        """Return some of the queries."""
        return Trial(self.queries.take(index), self.k, self.bounds[index])

    def found(self, metric: Metric, places: Places, lists: Lists, threads: int) -> np.ndarray:
        """Return the fraction (queries,) of what an approximate search finds that is as near as the exact result."""
        asked = self.k + _itself(self.queries)
        candidates = lists.candidates_of(self.queries, asked, threads)
        ids, distances = compared(metric, places, self.queries, candidates, asked, threads)
        return (_others(ids, distances, self.queries.ids, self.k) <= self.bounds[:, None]).mean(axis=1)


def _itself(queries: Part) -> int:
    """Return 1 where the queries are rows of the index, and each finds itself besides others."""
    return int(queries.ids.max() >= 0)


def _others(ids: np.ndarray, distances: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """Leave each query itself out: the k smallest distances (queries, k) to others."""
    other = ids != own[:, None]
    # Stable: what is left stays in order.
    return np.take_along_axis(distances, np.argsort(~other, axis=1, kind="stable"), axis=1)[:, :k]


def settle(
    lists: Lists,
    metric: Metric,
    places: Places,
    trial: Trial,
    target: float,
    fixed: tuple[int | None, int | None],
    threads: int,
) -> Recall:
    """Choose probes and candidates that reach a recall, and measure it on other queries.

    Args:
        lists: Where to set them.
        metric: The distance.
        places: Where the rows lie.
        trial: Queries; the first half is what they are chosen by, unless both are fixed.
        target: The recall to reach.
        fixed: Probes and candidates, where they are given.
        threads: Threads that search.

    Returns:
        The recall.
    """
    half = 0 if all(fixed) else len(trial.bounds) // 2
    chosen_by, measured = trial.take(slice(half)), trial.take(slice(half, None))

    def reached(effort: tuple[int, int]) -> float:
        lists.probes, lists.candidates = effort
        return float(chosen_by.found(metric, places, lists, threads).mean())

    probes, candidates = fixed
    most = (probes or len(lists), candidates or len(places))
    effort = (probes or 1, candidates or min(_FIRST_CANDIDATES * trial.k, len(places)))
    value = reached(effort) if half else target
    while value < target and effort != most:
        wider, deeper = (min(2 * effort[0], most[0]), effort[1]), (effort[0], min(2 * effort[1], most[1]))
        tried = {wider: reached(wider), deeper: reached(deeper)}
        better = max(tried, key=lambda choice: tried[choice])
        # What helps more; both where neither helps alone.
        effort = better if tried[better] > value else (wider[0], deeper[1])
        value = tried[effort] if effort in tried else reached(effort)
    lists.probes, lists.candidates = effort
    fractions = measured.found(metric, places, lists, threads)
    lists.recall = Recall.of(fractions, trial.k, lists.probes, lists.candidates, len(lists))
    return lists.recall
