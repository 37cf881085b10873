"""Codes: which affine piece won at every unit of every operator, packed into bits, compared and kept on disk."""

from maxaffine.codes.distance import code_distance, mismatches, operator_shares
from maxaffine.codes.mapping import Codes
from maxaffine.codes.packed import PackedCodes, pack

__all__ = [
    "Codes",
    "PackedCodes",
    "code_distance",
    "mismatches",
    "operator_shares",
    "pack",
]
