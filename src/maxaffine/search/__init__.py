"""Nearest neighbours in code distance: searched in memory or in a file."""

from maxaffine.search.index import CodeIndex, Neighbors

__all__ = ["CodeIndex", "Neighbors"]
