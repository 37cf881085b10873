"""Exact partitions: every region on a plane, every piece along a line, single regions, and measures of them."""

from maxaffine.partition.complexity import LocalComplexity, local_complexity
from maxaffine.partition.complexity_history import ComplexityHistory
from maxaffine.partition.gradients import IntegratedGradients, integrated_gradients
from maxaffine.partition.line import line
from maxaffine.partition.line_checks import LineReport
from maxaffine.partition.line_decisions import Decisions
from maxaffine.partition.line_partition import Crossings, LinePartition
from maxaffine.partition.plane import plane
from maxaffine.partition.plane_boundary import Segments
from maxaffine.partition.plane_frame import Frame
from maxaffine.partition.plane_partition import PlanePartition
from maxaffine.partition.plane_verify import PlaneReport
from maxaffine.partition.region import Facet, Neighbour, Region, region
from maxaffine.partition.region_enumeration import Regions, regions

__all__ = [
    "ComplexityHistory",
    "Crossings",
    "Decisions",
    "Facet",
    "Frame",
    "IntegratedGradients",
    "LinePartition",
    "LineReport",
    "LocalComplexity",
    "Neighbour",
    "PlanePartition",
    "PlaneReport",
    "Region",
    "Regions",
    "Segments",
    "integrated_gradients",
    "line",
    "local_complexity",
    "plane",
    "region",
    "regions",
]
