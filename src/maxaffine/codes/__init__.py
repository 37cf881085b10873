"""Codes: which affine piece won at every unit of every operator, packed into bits, compared and kept on disk."""

from maxaffine.codes.changes import code_changes
from maxaffine.codes.classes import as_classes
from maxaffine.codes.distance import code_distance, code_distance_blocks, operator_shares
from maxaffine.codes.drift import Drift, code_drift
from maxaffine.codes.files import replacing
from maxaffine.codes.hierarchy import Occupancy, RegionHierarchy, RegionLevel, region_hierarchy
from maxaffine.codes.mapping import FINGERPRINT, Codes
from maxaffine.codes.packed import PackedCodes, pack
from maxaffine.codes.rows import RowLayout, load_faiss

__all__ = [
    "FINGERPRINT",
    "Codes",
    "Drift",
    "Occupancy",
    "PackedCodes",
    "RegionHierarchy",
    "RegionLevel",
    "RowLayout",
    "as_classes",
    "code_changes",
    "code_distance",
    "code_distance_blocks",
    "code_drift",
    "load_faiss",
    "operator_shares",
    "pack",
    "region_hierarchy",
    "replacing",
]
