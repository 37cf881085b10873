"""Exact partitions: every region on a plane, every piece along a line, single regions, and measures of them."""

from maxaffine._partition.lines.gradients import IntegratedGradients, integrated_gradients
from maxaffine._partition.lines.partition import Crossings, Decisions, LinePartition, LineReport, line
from maxaffine._partition.measures.complexity import LocalComplexity, local_complexity
from maxaffine._partition.measures.crossed import CrossedRegions, crossed_regions
from maxaffine._partition.measures.exact import plane_complexity
from maxaffine._partition.measures.history import ComplexityHistory
from maxaffine._partition.planes.boundary import Segments
from maxaffine._partition.planes.contours import Contours as Contours
from maxaffine._partition.planes.frame import Frame
from maxaffine._partition.planes.partition import COLORINGS as COLORINGS
from maxaffine._partition.planes.partition import PlanePartition
from maxaffine._partition.planes.plane import plane, stream_plane
from maxaffine._partition.planes.tiles import PlaneTiles
from maxaffine._partition.planes.verify import PlaneReport
from maxaffine._partition.space.enumeration import Regions, regions
from maxaffine._partition.space.region import Facet, Neighbor, Region, region

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
