"""The distance between signals that the codes define, exact and in bounded memory."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from maxaffine._codes.mapping import Codes
from maxaffine._codes.metric import RowMetric
from maxaffine._codes.packed import PackedCodes, require_same_operators
from maxaffine._codes.rows import RowLayout, load_faiss
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

# One block of distances takes at most 64 MiB (or one row).
_BLOCK_NUMBERS = 1 << 23
# A tile compares at most this many rows with columns whose words of one operator about fit a second-level cache.
_TILE_ROWS, _TILE_COLUMNS, _TILE_WORDS = 64, 4096, 1 << 18
# From here on one unequal unit of any number of units is a distance above 0.
_LEAST_SHARE = 1e-200


def code_distance(
    a: Codes | PackedCodes, b: Codes | PackedCodes, weights: Mapping[str, float] | Sequence[float] | None = None
) -> torch.Tensor:
    """Return the fraction of units at which two inputs use different affine pieces, averaged over the operators.

    d(x, x') = sum_l w_l d_l(x, x') / sum_l w_l  with  d_l(x, x') = 1 - #{k : q_l(x)_k = q_l(x')_k} / K_l

    It is a pseudo-metric with values in [0, 1]: symmetric, with the triangle inequality, and zero exactly when the two
    inputs share the region of every operator that has a weight. An operator that cannot switch, without units or with
    one piece, is left out of both sums. One that could, but never does on your data, adds 0 to every pair and so makes
    the mean smaller: a distance of two inputs cannot depend on the others, so it stays, unless you leave out of
    ``weights`` what `Codes.unswitched` names, as the searches over data do.

    Args:
        a: Codes of Na inputs, of several operators or of one.
        b: Codes of Nb inputs, of the same operators.
        weights: w_l by operator name (an operator left out weighs nothing) or in the order of ``a``; equal by default.

    Returns:
        (Na, Nb) float64. Where that is too much, see `code_distance_blocks`.

    Raises:
        BadInput: If the operators differ, or the weights name an unknown operator, have another length, are negative or
            not finite, are all zero or further than a factor of 1e200 apart; or if the result is larger than the
            machine's memory.

    Example:
        >>> a = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 0]]), 2)})
        >>> b = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 0], [1, 1, 1, 0]]), 2)})
        >>> code_distance(a, b)
        tensor([[0.0000, 0.2500]], dtype=torch.float64)

    Source: the distance between partition encodings of Balestriero and Baraniuk, "A Spline Theory of Deep Networks"
    (ICML 2018) and "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576).
    """
    pairs = _pairs(a, b, weights)
    needed, memory = 8 * pairs.rows * pairs.columns, _memory()
    if needed > memory:
        raise BadInput(
            f"a, b: the distances of {pairs.rows} x {pairs.columns} pairs take {needed / 2**30:.1f} GiB and the machine"
            f" has {memory / 2**30:.1f} GiB; iterate over code_distance_blocks(a, b) and keep what you need of each"
        )
    result = np.empty((pairs.rows, pairs.columns))
    bar = progress_bar(None, "distances", total=pairs.rows, unit="row")
    with bar, ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for rows in _slices(pairs.rows, pairs.block_rows):
            pairs.fill(result[rows], rows.start, pool)
            bar.update(len(result[rows]))
    return torch.from_numpy(result)


def code_distance_blocks(
    a: Codes | PackedCodes,
    b: Codes | PackedCodes,
    weights: Mapping[str, float] | Sequence[float] | None = None,
    rows: int | None = None,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Return the rows of `code_distance` block by block, so that memory stays bounded for any number of inputs.

    The distances of 60,000 x 60,000 pairs take 27 GiB; here only the block that you hold and the next one exist at a
    time. Reduce each block (to its nearest columns, a minimum, a histogram) or write it to a file.

    Args:
        a: As in `code_distance`.
        b: As in `code_distance`.
        weights: As in `code_distance`.
        rows: Rows of a block; by default as many as take 64 MiB.

    Returns:
        An iterator over pairs: the rows of ``a`` as a slice, and their distances (rows, Nb) float64, equal to those
        rows of `code_distance`.

    Raises:
        BadInput: As `code_distance`, before the first block; or if ``rows`` is not a positive whole number.

    Example:
        >>> codes = Codes.from_tensors({"relu": (torch.eye(4, dtype=torch.int64), 2)})
        >>> [(block, d.max().item()) for block, d in code_distance_blocks(codes, codes, rows=3)]
        [(slice(0, 3, None), 0.5), (slice(3, 4, None), 0.5)]

    Source: as `code_distance`.
    """
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
        raise BadInput(f"rows={rows!r}; give the rows of a block, a whole number of at least 1")
    pairs = _pairs(a, b, weights)
    return _blocks(pairs, rows or pairs.block_rows)


def _blocks(pairs: _Pairs, step: int) -> Iterator[tuple[slice, torch.Tensor]]:
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for rows in _slices(pairs.rows, step):
            block = np.empty((rows.stop - rows.start, pairs.columns))
            pairs.fill(block, rows.start, pool)
            yield rows, torch.from_numpy(block)


def _slices(length: int, step: int, start: int = 0) -> Iterator[slice]:
    return (slice(first, min(first + step, length)) for first in range(start, length, step))


@dataclass(frozen=True)
class _Pairs:
    """What is to be compared: Na and Nb inputs, and the codes of both sides of every operator that can differ."""

    rows: int
    columns: int
    codes: tuple[tuple[PackedCodes, PackedCodes], ...]
    metric: RowMetric

    @property
    def block_rows(self) -> int:
        return max(1, _BLOCK_NUMBERS // max(1, self.columns))

    def fill(self, block: np.ndarray, start: int, pool: ThreadPoolExecutor) -> None:
        """Write the distances of the rows from ``start`` on into a block (rows, Nb)."""
        words = max((layout.width // 8 for layout in self.metric.layouts), default=1)
        step = max(1, min(_TILE_COLUMNS, _TILE_WORDS // words))
        tiles = itertools.product(_slices(len(block), _TILE_ROWS), _slices(self.columns, step))
        # Read to the end, so that an error in a thread is raised here.
        for _ in pool.map(lambda tile: self._fill_tile(block[tile], start + tile[0].start, tile[1]), tiles):
            pass

    def _fill_tile(self, tile: np.ndarray, start: int, columns: slice) -> None:
        if not self.codes:
            tile.fill(0)
            return
        pairs = list(zip(self.metric.layouts, self.codes, strict=True))
        rows = [layout.rows(a[start : start + len(tile)]) for layout, (a, _) in pairs]
        others = [layout.rows(b[columns]) for layout, (_, b) in pairs]
        self.metric.distances(self.metric.keys(rows, others), out=tile)


def _pairs(
    a: Codes | PackedCodes, b: Codes | PackedCodes, weights: Mapping[str, float] | Sequence[float] | None
) -> _Pairs:
    if not any(isinstance(a, kind) and isinstance(b, kind) for kind in (Codes, PackedCodes)):
        raise BadInput(
            f"a, b: a is {type(a).__name__} and b is {type(b).__name__}; give Codes of both, e.g. net.codes(x), or"
            " PackedCodes of both, e.g. codes['relu']"
        )
    codes_a = a if isinstance(a, Codes) else {"codes": a}
    codes_b = b if isinstance(b, Codes) else {"codes": b}
    require_same_operators(codes_a, codes_b, "b")
    shares = operator_shares(weights, list(codes_a))
    kept = [name for name, share in shares.items() if share and codes_a[name].bits_per_sample]
    layouts = tuple(RowLayout(name, codes_a[name].pieces, codes_a[name].units) for name in kept)
    metric = RowMetric(layouts, tuple(shares[name] for name in kept), load_faiss())
    return _Pairs(_batch(a), _batch(b), tuple((codes_a[name], codes_b[name]) for name in kept), metric)


def _batch(codes: Codes | PackedCodes) -> int:
    return codes.batch if isinstance(codes, Codes) else len(codes)


def _memory() -> int | float:
    """Bytes of the machine's memory, infinity where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def operator_shares(weights: Mapping[str, float] | Sequence[float] | None, names: list[str]) -> dict[str, float]:
    """Return a checked weight for each operator, scaled to at most 1 so that no sum overflows.

    Args:
        weights: As `code_distance` takes them.
        names: The operators, in the order of their codes.

    Returns:
        w_l / max w by operator name, in that order.

    Raises:
        BadInput: If a weight is unknown, missing or not a finite number of at least 0, all are zero, or one is so small
            beside another that distances by it would round to 0.
    """
    if weights is None:
        return dict.fromkeys(names, 1.0)
    if isinstance(weights, Mapping):
        if unknown := [name for name in weights if name not in names]:
            raise BadInput(f"weights: unknown operators {unknown}; the codes have {names}")
        weights = [weights.get(name, 0.0) for name in names]
    try:
        values = [float(weight) for weight in weights]
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"weights: they cannot be read as numbers ({error}); give one for each of {names}") from error
    if len(values) != len(names):
        raise BadInput(f"weights: {len(values)} entries for {len(names)} operators {names}; give one for each")
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise BadInput(f"weights: {values}; give finite numbers of at least 0")
    if not any(values):
        raise BadInput("weights: all zero; give at least one operator a positive weight")
    largest = max(values)
    if min(value for value in values if value) < _LEAST_SHARE * largest:
        raise BadInput(
            f"weights: of {values}, beside the largest the smallest rounds to nothing; leave its operator out, or give"
            " weights that are less far apart"
        )
    return {name: value / largest for name, value in zip(names, values, strict=True)}
