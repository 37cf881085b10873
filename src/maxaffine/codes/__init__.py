"""Codes: which affine piece won at every unit of every operator, packed into bits, compared and kept on disk."""

from maxaffine.codes.changes import code_changes
from maxaffine.codes.distance import code_distance, mismatches, operator_shares
from maxaffine.codes.hierarchy import Occupancy, RegionHierarchy, RegionLevel, region_hierarchy
from maxaffine.codes.mapping import Codes
from maxaffine.codes.packed import PackedCodes, pack

__all__ = [
    "Codes",
    "Occupancy",
    "PackedCodes",
    "RegionHierarchy",
    "RegionLevel",
    "code_changes",
    "code_distance",
    "mismatches",
    "operator_shares",
    "pack",
    "region_hierarchy",
]
