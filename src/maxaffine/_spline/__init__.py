"""The idea, on plain tensors: max-affine splines, and the power diagrams that are their cells."""

from maxaffine._spline.power import PowerDiagram
from maxaffine._spline.spline import LocalMap, MaxAffineSpline

__all__ = ["LocalMap", "MaxAffineSpline", "PowerDiagram"]
