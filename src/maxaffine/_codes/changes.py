"""Codes of the same inputs compared row by row: by two networks of one architecture, or at two moments of training."""

from __future__ import annotations

import numpy as np
import torch

from maxaffine._chunks import slices
from maxaffine._codes.mapping import Codes
from maxaffine._codes.packed import PackedCodes, require_same_batch, require_same_operators

# Bytes of bit planes unpacked at a time.
_BLOCK_BYTES = 1 << 22


def code_changes(a: Codes, b: Codes) -> dict[str, torch.Tensor]:
    """Return, input by input, the fraction of each operator's units that have another code on the other side.

    d_l(n) = #{k : q_l(x_n)_k in a != q_l(x_n)_k in b} / K_l

    `code_distance` compares inputs of one network; this compares what two networks of the same architecture make of
    the same input, so the codes must come from the same inputs in the same order.

    Args:
        a: Codes of N inputs.
        b: Codes of the same inputs and operators.

    Returns:
        (N,) float64 in [0, 1] by operator name; 0 for an operator without units or with one piece.

    Raises:
        BadInput: If the operators or the numbers of inputs differ.

    Example:
        >>> before = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]]), 2)})
        >>> after = Codes.from_tensors({"relu": (torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]), 2)})
        >>> code_changes(before, after)["relu"]
        tensor([0.2500, 0.0000], dtype=torch.float64)

    Source: the distance between partition encodings of Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into
    Deep Learning" (arXiv 1805.06576), from epoch to epoch as in You et al., "Max-Affine Spline Insights Into Deep
    Network Pruning" (TMLR 2022).
    """
    require_same_operators(a, b, "b")
    require_same_batch(a.batch, b.batch)
    return {name: _share_of_changes(a[name], b[name]) for name in a}


def _share_of_changes(a: PackedCodes, b: PackedCodes) -> torch.Tensor:
    changed = np.zeros(len(a))
    if a.bits_per_sample:
        for block in slices(len(a), _BLOCK_BYTES // a.bits_per_sample):
            # A unit has another code where any of its bits differs.
            differs = np.bitwise_or.reduce(a.packed[block].numpy() ^ b.packed[block].numpy(), axis=1)
            changed[block] = np.unpackbits(differs, axis=1).sum(axis=1) / a.unit_count
    return torch.from_numpy(changed)
