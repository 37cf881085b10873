"""The affine map that a network is at given inputs: f(x) = A[x] x + b[x], matrix-free or materialized."""

from maxaffine.maps.affine_map import AffineMap
from maxaffine.maps.offsets import OffsetContributions

__all__ = ["AffineMap", "OffsetContributions"]
