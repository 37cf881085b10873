"""Codes: which affine piece won at every unit of every operator, packed into bits, compared and kept on disk."""

from maxaffine._codes.changes import code_changes
from maxaffine._codes.classes import as_classes
from maxaffine._codes.distance import code_distance, code_distance_blocks, operator_shares
from maxaffine._codes.drift import Drift, code_drift
from maxaffine._codes.hierarchy import Occupancy, RegionHierarchy, RegionLevel, region_hierarchy
from maxaffine._codes.mapping import FINGERPRINT, SMOOTH, Codes
from maxaffine._codes.metric import RowMetric
from maxaffine._codes.packed import PackedCodes, pack
from maxaffine._codes.rows import RowLayout, load_faiss

__all__ = [
    "FINGERPRINT",
    "Codes",
    "Drift",
    "Occupancy",
    "PackedCodes",
    "RegionHierarchy",
    "RegionLevel",
    "RowLayout",
    "RowMetric",
    "SMOOTH",
    "as_classes",
    "code_changes",
    "code_distance",
    "code_distance_blocks",
    "code_drift",
    "load_faiss",
    "operator_shares",
    "pack",
    "region_hierarchy",
]
