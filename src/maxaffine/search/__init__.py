"""Nearest neighbors in code distance: in memory, a file or a store, at every depth, and what they tell."""

from maxaffine.search.audit import LabelErrors, NearDuplicates, label_errors, near_duplicates
from maxaffine.search.depth import DepthNeighbors, neighbors
from maxaffine.search.distributed import encode_with_ray, search_with_ray
from maxaffine.search.encode import Encoded, Inputs, encode
from maxaffine.search.index import CodeIndex
from maxaffine.search.nearest import Neighbors
from maxaffine.search.recall import Recall
from maxaffine.search.schema import StoredCodes
from maxaffine.search.store import CodeStore
from maxaffine.search.stored import search_store

__all__ = [
    "CodeIndex",
    "CodeStore",
    "DepthNeighbors",
    "Encoded",
    "Inputs",
    "LabelErrors",
    "NearDuplicates",
    "Neighbors",
    "Recall",
    "StoredCodes",
    "encode",
    "encode_with_ray",
    "label_errors",
    "near_duplicates",
    "neighbors",
    "search_store",
    "search_with_ray",
]
