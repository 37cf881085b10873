"""Exact partitions: every region on a plane, every piece along a line, single regions, and measures of them."""

from maxaffine.partition.lines.decisions import Decisions
from maxaffine.partition.lines.gradients import IntegratedGradients, integrated_gradients
from maxaffine.partition.lines.line import line
from maxaffine.partition.lines.partition import Crossings, LinePartition, LineReport
from maxaffine.partition.measures.complexity import LocalComplexity, local_complexity
from maxaffine.partition.measures.crossed import CrossedRegions, crossed_regions
from maxaffine.partition.measures.exact import plane_complexity
from maxaffine.partition.measures.history import ComplexityHistory
from maxaffine.partition.planes.boundary import Segments
from maxaffine.partition.planes.frame import Frame
from maxaffine.partition.planes.partition import PlanePartition
from maxaffine.partition.planes.plane import plane
from maxaffine.partition.planes.stream import stream_plane
from maxaffine.partition.planes.tiles import PlaneTiles
from maxaffine.partition.planes.verify import PlaneReport
from maxaffine.partition.space.enumeration import Regions, regions
from maxaffine.partition.space.region import Facet, Neighbor, Region, region

__all__ = [
    "ComplexityHistory",
    "CrossedRegions",
    "Crossings",
    "Decisions",
    "Facet",
    "Frame",
    "IntegratedGradients",
    "LinePartition",
    "LineReport",
    "LocalComplexity",
    "Neighbor",
    "PlanePartition",
    "PlaneReport",
    "PlaneTiles",
    "Region",
    "Regions",
    "Segments",
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
