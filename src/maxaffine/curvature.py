"""Curvature: networks whose units weigh their pieces, and the beta that a data set asks for."""

from maxaffine._curvature import SoftNetwork, Tuning, soften, tune

__all__ = ["SoftNetwork", "Tuning", "soften", "tune"]
