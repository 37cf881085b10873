"""Nearest neighbours in code distance: in memory, a file or a store, at every depth, and what they tell."""

from maxaffine.search.audit import LabelErrors, NearDuplicates, label_errors, near_duplicates
from maxaffine.search.depth import DepthNeighbors, neighbors
from maxaffine.search.index import CodeIndex, Neighbors
from maxaffine.search.schema import StoredCodes
from maxaffine.search.store import CodeStore

__all__ = [
    "CodeIndex",
    "CodeStore",
    "DepthNeighbors",
    "LabelErrors",
    "NearDuplicates",
    "Neighbors",
    "StoredCodes",
    "label_errors",
    "near_duplicates",
    "neighbors",
]
