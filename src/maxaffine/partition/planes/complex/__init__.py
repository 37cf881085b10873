"""Plane subdivisions in flat arrays, and their division by the zero sets of functions; knows nothing of networks."""

from maxaffine.partition.planes.complex.cells import OUTSIDE, Complex, cross
from maxaffine.partition.planes.complex.dissolve import dissolve
from maxaffine.partition.planes.complex.ragged import owners, places, spans, starts_of
from maxaffine.partition.planes.complex.subdivide import Functions, Round, Stage, subdivide

__all__ = [
    "OUTSIDE",
    "Complex",
    "Functions",
    "Round",
    "Stage",
    "cross",
    "dissolve",
    "owners",
    "places",
    "spans",
    "starts_of",
    "subdivide",
]
