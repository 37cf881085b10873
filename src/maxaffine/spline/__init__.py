"""The idea, on plain tensors: max-affine splines, and the power diagrams that are their cells."""

from maxaffine.spline.power import PowerDiagram
from maxaffine.spline.spline import LocalMap, MaxAffineSpline

__all__ = ["LocalMap", "MaxAffineSpline", "PowerDiagram"]
