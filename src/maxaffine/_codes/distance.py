"""The distance between signals that the codes define, exact and in bounded memory."""

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from maxaffine._chunks import slices
from maxaffine._codes.mapping import Codes
from maxaffine._codes.metric import WORD, RowMetric, layouts_of, load_faiss
from maxaffine._codes.packed import PackedCodes, require_same_operators
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
    a, b, metric, rows = _compare(a, b, weights)
    # Asked beforehand: where memory is promised and then missing, the system ends the process.
    needed, memory = 8 * a.batch * b.batch, _memory()
    if needed > memory:
        raise BadInput(
            f"a, b: the distances of {a.batch} x {b.batch} pairs take {needed / 2**30:.1f} GiB and the machine has"
            f" {memory / 2**30:.1f} GiB; iterate over code_distance_blocks(a, b) and keep what you need of each"
        )
    result = np.zeros((a.batch, b.batch))
    with progress_bar(None, "distances", total=a.batch, unit="row") as bar:
        for _, block in _blocks(a, b, metric, rows, result):
            bar.update(len(block))
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
    a, b, metric, fitting = _compare(a, b, weights)
    return _blocks(a, b, metric, rows or fitting)


def _blocks(
    a: Codes, b: Codes, metric: RowMetric, step: int, out: np.ndarray | None = None
) -> Iterator[tuple[slice, torch.Tensor]]:
    """So many rows at a time, and their distances (rows, Nb), in zeros (Na, Nb) where they are given."""
    words = max((layout.width // WORD for layout in metric.layouts), default=1)
    columns = list(slices(b.batch, min(_TILE_COLUMNS, _TILE_WORDS // words)))

    def fill(block: np.ndarray, start: int, tile: tuple[slice, slice]) -> None:
        # Only the rows of a tile are laid out for comparison, so that no second copy of all codes exists.
        own = slice(start + tile[0].start, start + tile[0].stop)
        rows = [layout.rows(a[layout.name][own]) for layout in metric.layouts]
        others = [layout.rows(b[layout.name][tile[1]]) for layout in metric.layouts]
        metric.distances(metric.keys(rows, others), out=block[tile])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for run in slices(a.batch, step):
            block = np.zeros((run.stop - run.start, b.batch)) if out is None else out[run]
            tiles = itertools.product(slices(len(block), _TILE_ROWS), columns)
            # Read to the end, so that an error in a thread is raised here.
            list(pool.map(partial(fill, block, run.start), tiles if metric.layouts else ()))
            yield run, torch.from_numpy(block)


def _compare(
    a: Codes | PackedCodes, b: Codes | PackedCodes, weights: Mapping[str, float] | Sequence[float] | None
) -> tuple[Codes, Codes, RowMetric, int]:
    """Both sides as codes of several operators, the distance between them, and how many rows a block has."""
    if not any(isinstance(a, kind) and isinstance(b, kind) for kind in (Codes, PackedCodes)):
        raise BadInput(
            f"a, b: a is {type(a).__name__} and b is {type(b).__name__}; give Codes of both, e.g. net.codes(x), or"
            " PackedCodes of both, e.g. codes['relu']"
        )
    a, b = (codes if isinstance(codes, Codes) else Codes({"codes": codes}) for codes in (a, b))
    require_same_operators(a, b, "b")
    # An operator without codes adds nothing to either sum; with it the mean would be smaller.
    shares = {n: share for n, share in operator_shares(weights, list(a)).items() if share and a[n].bits_per_sample}
    metric = RowMetric(layouts_of({name: a[name] for name in shares}), tuple(shares.values()), load_faiss())
    return a, b, metric, max(1, _BLOCK_NUMBERS // max(1, b.batch))


def _memory() -> int | float:
    """Bytes of the machine's memory, infinity where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def operator_shares(weights: Mapping[str, float] | Sequence[float] | None, names: list[str]) -> dict[str, float]:
    """Check weights as `code_distance` takes them: w_l / max w of each operator, at most 1 so that no sum overflows."""
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
    # One unequal unit has to be a distance above 0, or rows of another region would be at no distance.
    if min(value for value in values if value) < _LEAST_SHARE * largest:
        raise BadInput(
            f"weights: of {values}, beside the largest the smallest rounds to nothing; leave its operator out, or give"
            " weights that are less far apart"
        )
    return {name: value / largest for name, value in zip(names, values, strict=True)}
