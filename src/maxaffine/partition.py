"""Exact partitions: every region on a plane, every piece along a line, single regions, and measures of them."""

from maxaffine._partition import (
    ComplexityHistory,
    LinePartition,
    PlanePartition,
    PlaneTiles,
    Region,
    Regions,
    crossed_regions,
    integrated_gradients,
    line,
    local_complexity,
    plane,
    plane_complexity,
    region,
    regions,
    stream_plane,
)

__all__ = [
    "ComplexityHistory",
    "LinePartition",
    "PlanePartition",
    "PlaneTiles",
    "Region",
    "Regions",
    "crossed_regions",
    "integrated_gradients",
    "line",
    "local_complexity",
    "plane",
    "plane_complexity",
    "region",
    "regions",
    "stream_plane",
]
