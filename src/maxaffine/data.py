"""Named data sets and files, as arrays."""

from maxaffine._data import DataSet, Split, load

__all__ = ["DataSet", "Split", "load"]
