"""Exact partitions: every region on a plane, every piece along a line, single regions, and measures of them."""

from maxaffine._partition.decisions.decision import NearestDecision, nearest_decision
from maxaffine._partition.decisions.ranges import value_ranges
from maxaffine._partition.distances import BoundaryDistances, boundary_distances
from maxaffine._partition.lines.gradients import integrated_gradients
from maxaffine._partition.lines.partition import LinePartition, line
from maxaffine._partition.measures import ComplexityHistory, crossed_regions, local_complexity, plane_complexity
from maxaffine._partition.planes.boundary import Contours
from maxaffine._partition.planes.checks import PlaneReport
from maxaffine._partition.planes.partition import COLORINGS, PlanePartition
from maxaffine._partition.planes.plane import plane, stream_plane
from maxaffine._partition.planes.tiles import PlaneTiles
from maxaffine._partition.space.lipschitz import Lipschitz, lipschitz
from maxaffine._partition.space.region import Region, region
from maxaffine._partition.space.regions import Regions, regions
from maxaffine._partition.surfaces.surface import Surface, surface
