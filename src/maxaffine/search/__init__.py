"""Nearest neighbours in code distance: searched in memory or in a file, at every depth, and what they tell of data."""

from maxaffine.search.audit import LabelErrors, NearDuplicates, label_errors, near_duplicates
from maxaffine.search.depth import DepthNeighbors, neighbors
from maxaffine.search.index import CodeIndex, Neighbors

__all__ = [
    "CodeIndex",
    "DepthNeighbors",
    "LabelErrors",
    "NearDuplicates",
    "Neighbors",
    "label_errors",
    "near_duplicates",
    "neighbors",
]
