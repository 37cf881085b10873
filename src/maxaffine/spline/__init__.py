"""The idea, on plain tensors: max-affine splines, and the layers of a network written as one."""

from maxaffine.spline.forms import max_affine_form
from maxaffine.spline.layers import Abs, Maxout
from maxaffine.spline.power import PowerDiagram
from maxaffine.spline.spline import LocalMap, MaxAffineSpline

__all__ = ["Abs", "LocalMap", "MaxAffineSpline", "Maxout", "PowerDiagram", "max_affine_form"]
