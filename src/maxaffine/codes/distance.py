"""The distance between signals that the codes define, in its plain exact form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from maxaffine.codes.mapping import Codes
from maxaffine.codes.packed import PackedCodes, require_same_operators
from maxaffine.errors import BadInput

# Words of one block of row pairs, 1 MiB: the XOR and its counts stay in a second-level cache, and bound the memory.
_BLOCK_WORDS = 1 << 17


def code_distance(
    a: Codes | PackedCodes, b: Codes | PackedCodes, weights: Mapping[str, float] | Sequence[float] | None = None
) -> torch.Tensor:
    """Return the fraction of units at which two inputs use different affine pieces, averaged over the operators.

    d(x, x') = sum_l w_l d_l(x, x') / sum_l w_l  with  d_l(x, x') = 1 - #{k : q_l(x)_k = q_l(x')_k} / K_l

    It is a pseudo-metric with values in [0, 1]: symmetric, with the triangle inequality, and zero exactly when the two
    inputs share the region of every operator that has a weight. An operator without units or with one piece adds 0.

    Args:
        a: Codes of Na inputs, of several operators or of one.
        b: Codes of Nb inputs, of the same operators.
        weights: w_l by operator name (an operator left out weighs nothing) or in the order of ``a``; equal by default.

    Returns:
        (Na, Nb) float64.

    Raises:
        BadInput: If the operators differ, or the weights name an unknown operator, have another length, are negative or
            not finite, or are all zero.

    Example:
        >>> a = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 0]]), 2)})
        >>> b = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 0], [1, 1, 1, 0]]), 2)})
        >>> code_distance(a, b)
        tensor([[0.0000, 0.2500]], dtype=torch.float64)

    Source: the distance between partition encodings of Balestriero and Baraniuk, "A Spline Theory of Deep Networks"
    (ICML 2018) and "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576).
    """
    if isinstance(a, Codes) != isinstance(b, Codes):
        raise BadInput(
            "one of a and b is Codes, the other PackedCodes; take the same operator from both, e.g. a['relu']"
        )
    codes_a = a if isinstance(a, Codes) else {"codes": a}
    codes_b = b if isinstance(b, Codes) else {"codes": b}
    require_same_operators(codes_a, codes_b, "b")
    total, norm = np.zeros((_batch(a), _batch(b))), 0.0
    for name, share in operator_shares(weights, list(codes_a)).items():
        # Summed in the same order as the distances, so that no rounding lifts a mean above 1.
        norm += share
        if share and codes_a[name].bits_per_sample:
            _add_distance(total, codes_a[name], codes_b[name], share)
    return torch.from_numpy(total / (norm or 1.0))


def _batch(codes: Codes | PackedCodes) -> int:
    return codes.batch if isinstance(codes, Codes) else len(codes)


def operator_shares(weights: Mapping[str, float] | Sequence[float] | None, names: list[str]) -> dict[str, float]:
    """Return a checked weight for each operator, scaled to at most 1 so that no sum overflows.

    Args:
        weights: As `code_distance` takes them.
        names: The operators, in the order of their codes.

    Returns:
        w_l / max w by operator name, in that order.

    Raises:
        BadInput: If a weight is unknown, missing or no finite number of at least 0, or all are zero.
    """
    if weights is None:
        return dict.fromkeys(names, 1.0)
    if isinstance(weights, Mapping):
        if unknown := [name for name in weights if name not in names]:
            raise BadInput(f"weights name unknown operators {unknown}; the codes have {names}")
        values = [float(weights.get(name, 0.0)) for name in names]
    else:
        values = [float(weight) for weight in weights]
        if len(values) != len(names):
            raise BadInput(f"weights has {len(values)} entries for {len(names)} operators {names}; give one for each")
    if any(not math.isfinite(value) or value < 0 for value in values):
        raise BadInput(f"weights are {values}; give finite numbers of at least 0")
    if not any(values):
        raise BadInput("weights are all zero; give at least one operator a positive weight")
    return {name: value / max(values) for name, value in zip(names, values, strict=True)}


def _add_distance(total: np.ndarray, a: PackedCodes, b: PackedCodes, share: float) -> None:
    """Add share times the distance of one operator, in blocks of row pairs."""
    words = -(-a.packed.shape[2] // 8)
    columns = max(1, min(len(b), _BLOCK_WORDS // words))
    rows = max(1, _BLOCK_WORDS // (words * columns))
    for j in _blocks(len(b), columns):
        right = _words(b.packed[j].numpy())
        for i in _blocks(len(a), rows):
            total[i, j] += share * (mismatches(_words(a.packed[i].numpy()), right) / a.unit_count)


def _blocks(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))


def _words(planes: np.ndarray) -> np.ndarray:
    """Return a view of the planes of some rows as (rows, bits, words), 64 units a word."""
    padding = -planes.shape[2] % 8
    padded = np.pad(planes, ((0, 0), (0, 0), (0, padding))) if padding else np.ascontiguousarray(planes)
    return padded.view(np.uint64)


def mismatches(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how many units differ between the bit planes of two sets of rows.

    Args:
        a: uint64, (Na, bits, words).
        b: uint64, (Nb, bits, words).

    Returns:
        (Na, Nb) int64; it takes Na * Nb * words words of working memory.
    """
    differs = a[:, None, 0] ^ b[None, :, 0]
    for j in range(1, a.shape[1]):
        differs |= a[:, None, j] ^ b[None, :, j]
    # torch sums bytes along the last dimension several times faster than numpy where there are few of them.
    return torch.from_numpy(_popcount(differs)).sum(-1).numpy()


def _table_popcount(words: np.ndarray) -> np.ndarray:
    """Return the number of set bits of each byte; the last dimension counts bytes instead of words."""
    return _BYTE_COUNTS[words.view(np.uint8)]


_BYTE_COUNTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
# numpy 1 has no bitwise_count.
_popcount = getattr(np, "bitwise_count", _table_popcount)
