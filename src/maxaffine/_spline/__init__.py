"""The idea, on plain tensors: max-affine splines, and the power diagrams that are their cells."""

from maxaffine._spline.fit import fit_differences, stacked
from maxaffine._spline.spline import LocalMap, MaxAffineSpline, PowerDiagram
