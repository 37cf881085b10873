"""Plane subdivisions in flat arrays, and their division by the zero sets of functions; knows nothing of networks."""

from maxaffine._partition.planes.complex.cells import OUTSIDE, SPOKE, Complex, cross, keys_of
from maxaffine._partition.planes.complex.dissolve import bends, dissolve, groups, unite
from maxaffine._partition.planes.complex.ragged import owners, places, spans, starts_of
from maxaffine._partition.planes.complex.subdivide import Functions, Round, Stage, subdivide

__all__ = [
    "OUTSIDE",
    "SPOKE",
    "Complex",
    "Functions",
    "Round",
    "Stage",
    "bends",
    "cross",
    "dissolve",
    "groups",
    "keys_of",
    "owners",
    "places",
    "spans",
    "starts_of",
    "subdivide",
    "unite",
]
