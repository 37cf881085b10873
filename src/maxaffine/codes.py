"""Codes compared: distance, change in training, the hierarchy of regions."""

from maxaffine._codes import (
    PackedCodes,
    RegionHierarchy,
    code_changes,
    code_distance,
    code_distance_blocks,
    code_drift,
    region_hierarchy,
)

__all__ = [
    "PackedCodes",
    "RegionHierarchy",
    "code_changes",
    "code_distance",
    "code_distance_blocks",
    "code_drift",
    "region_hierarchy",
]
