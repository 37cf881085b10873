"""Search a store without an index in memory: one pass over its rows, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from maxaffine._codes import Codes, operator_shares
from maxaffine._search.checks import Weights, positive, require_rows, switching_weights
from maxaffine._search.index import CodeIndex
from maxaffine._search.nearest import NO_ID, Best, Neighbors
from maxaffine._search.store import CodeStore
from maxaffine.errors import BadInput, DataError


def search_store(
    store: CodeStore,
    codes: Codes,
    k: int,
    weights: Weights | None = None,
    *,
    files: Sequence[int] | None = None,
    threads: int = 1,
    progress: bool | None = None,
) -> Neighbors:
    """Find the k nearest rows of a store to each query; only one batch of rows is in memory at a time.

    The result is that of ``store.index().search(...)``, to the last bit.

    Args:
        store: The store.
        codes: Codes of N queries, of at least the operators that have a weight.
        k: How many to find, at most the number of rows (but of some files only: fewer are filled up with id -1 at an
            infinite distance).
        weights: As for `CodeIndex.search`, by default equal for the operators that switch in the store; operators
            without a weight are not read.
        files: Numbers of the files to search; all by default.
        threads: Threads that compare.
        progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

    Returns:
        The neighbors.

    Raises:
        BadInput: If the codes are of other operators or another network, or k, the weights or threads are not valid.
        DataError: If the store is damaged, one of the files is no longer there, or two neighbors have one id.
    """
    positive("threads", threads)
    require_rows(k, len(store) if files is None else k, "store")
    weights, left_out = switching_weights(weights, store.operators, store.unswitched)
    wanted = {name: share for name, share in operator_shares(weights, list(store.operators)).items() if share}

    def of_parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part in store.batches(list(wanted), files=files, progress=progress):
            try:
                index = CodeIndex(part.codes, part.ids)
            except BadInput as error:
                raise DataError(f"{store.path} holds rows of one id ({error})") from error
            found = index.search(codes, min(k, len(part.ids)), wanted, threads=threads, progress=False)
            yield found.ids.numpy(), found.distances.numpy()

    return merge(of_parts(), codes.batch, k, left_out)


def merge(parts: Iterable[tuple[np.ndarray, np.ndarray]], queries: int, k: int, left_out: tuple[str, ...]) -> Neighbors:
    """The k nearest of all, from what was found in each part: ids, and distances, infinite where there are no more."""
    best = Best(queries, k, np.dtype(np.float64))
    for ids, distances in parts:
        best.add(distances, np.where(np.isinf(distances), NO_ID, ids))
    best.settle()
    filled = np.isfinite(best.keys)
    for row, full in zip(best.ids, filled, strict=True):
        if len(np.unique(row[full])) < full.sum():
            raise DataError(f"two rows of the store have one id, among {np.unique(row[full])[:5].tolist()}")
    return Neighbors(torch.from_numpy(np.where(filled, best.ids, -1)), torch.from_numpy(best.keys), left_out)
