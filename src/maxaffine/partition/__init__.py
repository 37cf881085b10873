"""Exact partitions: every piece of a network along a line, and single regions in full space."""

from maxaffine.partition.complexity import LocalComplexity, local_complexity
from maxaffine.partition.complexity_history import ComplexityHistory
from maxaffine.partition.gradients import IntegratedGradients, integrated_gradients
from maxaffine.partition.line import line
from maxaffine.partition.line_checks import LineReport
from maxaffine.partition.line_decisions import Decisions
from maxaffine.partition.line_partition import Crossings, LinePartition
from maxaffine.partition.region import Facet, Neighbour, Region, region
from maxaffine.partition.region_enumeration import Regions, regions

__all__ = [
    "ComplexityHistory",
    "Crossings",
    "Decisions",
    "Facet",
    "IntegratedGradients",
    "LinePartition",
    "LineReport",
    "LocalComplexity",
    "Neighbour",
    "Region",
    "Regions",
    "integrated_gradients",
    "line",
    "local_complexity",
    "region",
    "regions",
]
