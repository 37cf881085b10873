"""Nearest neighbors in code distance: in memory, a file or a store, at every depth, and what they tell."""

from maxaffine._search.approximate import Recall
from maxaffine._search.audit import LabelErrors, NearDuplicates, label_errors, near_duplicates
from maxaffine._search.depth import DepthNeighbors, neighbors
from maxaffine._search.distributed import encode_with_ray, search_with_ray
from maxaffine._search.encode import Encoded, Inputs, encode
from maxaffine._search.index import CodeIndex
from maxaffine._search.nearest import Neighbors
from maxaffine._search.store import CodeStore, StoredCodes, search_store
