"""The affine map that a network is at given inputs: f(x) = A[x] x + b[x], matrix-free or materialized."""

from maxaffine._maps.affine_map import AffineMap, OffsetContributions
