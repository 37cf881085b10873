"""Nearest neighbors in code distance: in memory, in a file or in a store, and what they say of the data."""

from maxaffine._search import (
    CodeIndex,
    CodeStore,
    encode,
    encode_with_ray,
    label_errors,
    near_duplicates,
    neighbors,
    search_store,
    search_with_ray,
)

__all__ = [
    "CodeIndex",
    "CodeStore",
    "encode",
    "encode_with_ray",
    "label_errors",
    "near_duplicates",
    "neighbors",
    "search_store",
    "search_with_ray",
]
