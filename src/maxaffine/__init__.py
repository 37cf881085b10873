"""maxaffine: the exact spline form of any piecewise-affine PyTorch network."""

from importlib.metadata import version

from maxaffine import (
    codes,
    curvature,
    data,
    generators,
    learning,
    models,
    operators,
    partition,
    pruning,
    search,
    templates,
)
from maxaffine._capture import SplineNetwork, capture, max_affine_form
from maxaffine._codes import Codes
from maxaffine._maps import AffineMap, OffsetContributions
from maxaffine._network import ExactnessReport
from maxaffine._report import Report, report
from maxaffine._spline import MaxAffineSpline
from maxaffine.errors import (
    BadInput,
    CaptureError,
    DataError,
    ExactnessError,
    MaxAffineError,
    ModelError,
    NotPiecewiseAffine,
    PartitionError,
    ShapeMismatch,
)

__version__ = version("maxaffine")

__all__ = [
    # From a module to its spline form.
    "SplineNetwork",
    "capture",
    "max_affine_form",
    "report",
    # What it gives.
    "AffineMap",
    "Codes",
    "ExactnessReport",
    "MaxAffineSpline",
    "OffsetContributions",
    "Report",
    # What is done with it.
    "codes",
    "curvature",
    "data",
    "generators",
    "learning",
    "models",
    "operators",
    "partition",
    "pruning",
    "search",
    "templates",
    # What goes wrong.
    "BadInput",
    "CaptureError",
    "DataError",
    "ExactnessError",
    "MaxAffineError",
    "ModelError",
    "NotPiecewiseAffine",
    "PartitionError",
    "ShapeMismatch",
]
