"""Search a store without an index in memory: one pass over its rows, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from maxaffine._codes import Codes, operator_shares
from maxaffine._search.checks import positive
from maxaffine._search.index import CodeIndex, Weights
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
    if positive("k", k) > len(store) and files is None:
        raise BadInput(f"k={k}, but the store holds {len(store)} rows; ask for fewer, or append more")
    weights, left_out = switching(store, weights)
    wanted = {name: share for name, share in operator_shares(weights, list(store.operators)).items() if share}
    best = Best(codes.batch, k, np.dtype(np.float64))
    for part in store.batches(list(wanted), files=files, progress=progress):
        try:
            index = CodeIndex(part.codes, part.ids)
        except BadInput as error:
            raise DataError(f"{store.path} holds rows of one id ({error})") from error
        found = index.search(codes, min(k, len(part.ids)), wanted, threads=threads, progress=False)
        best.add(found.distances.numpy(), found.ids.numpy())
    best.settle()
    return merged([(best.ids, best.keys)], left_out)


def switching(store: CodeStore, weights: Weights | None) -> tuple[Weights | None, tuple[str, ...]]:
    """Settle the weights of a search that is done in parts: each part alone cannot tell which operators switch.

    Args:
        store: The store.
        weights: As given.

    Returns:
        The weights, by default equal for the operators that switch in the store; and the operators left out.
    """
    left_out = () if weights is not None else store.unswitched()
    # As in an index: where none switches, all are compared.
    if not left_out or len(left_out) == len(store.operators):
        return weights, ()
    return {name: 1.0 for name in store.operators if name not in left_out}, left_out


def merged(results: Sequence[tuple[np.ndarray, np.ndarray]], left_out: tuple[str, ...]) -> Neighbors:
    """Merge what was found in parts of the rows.

    Args:
        results: ids (N, k) and distances (N, k) of each part; -1 and infinity where a part has fewer rows.
        left_out: Operators that are not in the distances.

    Returns:
        The k nearest of all.

    Raises:
        DataError: If one id was found twice.
    """
    queries, k = results[0][0].shape
    best = Best(queries, k, np.dtype(np.float64))
    for ids, distances in results:
        best.add(distances, np.where(np.isinf(distances), NO_ID, ids))
    best.settle()
    filled = np.isfinite(best.keys)
    for row, full in zip(best.ids, filled, strict=True):
        if len(np.unique(row[full])) < full.sum():
            raise DataError(f"two rows of the store have one id, among {np.unique(row[full])[:5].tolist()}")
    return Neighbors(torch.from_numpy(np.where(filled, best.ids, -1)), torch.from_numpy(best.keys), left_out)
