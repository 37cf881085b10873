"""maxaffine: the exact spline form of any piecewise-affine PyTorch network."""

from importlib.metadata import version

from maxaffine import partition
from maxaffine.capture import Call, batch, capture, check_rule, max_affine_form, rule
from maxaffine.codes import Codes, PackedCodes, code_distance, code_distance_blocks, region_hierarchy
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
from maxaffine.graph import Operator, OperatorRecord
from maxaffine.learning import CodeDrift, OrthogonalTemplates
from maxaffine.maps import AffineMap, OffsetContributions
from maxaffine.network import ExactnessReport, SplineNetwork, verify
from maxaffine.search import CodeIndex, CodeStore, Neighbors, label_errors, near_duplicates, neighbors
from maxaffine.spline import MaxAffineSpline
from maxaffine.templates import memorization, templates

__version__ = version("maxaffine")

__all__ = [
    "AffineMap",
    "BadInput",
    "Call",
    "CaptureError",
    "CodeDrift",
    "CodeIndex",
    "CodeStore",
    "Codes",
    "DataError",
    "ExactnessError",
    "ExactnessReport",
    "MaxAffineError",
    "MaxAffineSpline",
    "ModelError",
    "Neighbors",
    "NotPiecewiseAffine",
    "OffsetContributions",
    "Operator",
    "OperatorRecord",
    "OrthogonalTemplates",
    "PackedCodes",
    "PartitionError",
    "ShapeMismatch",
    "SplineNetwork",
    "batch",
    "capture",
    "check_rule",
    "code_distance",
    "code_distance_blocks",
    "label_errors",
    "max_affine_form",
    "memorization",
    "near_duplicates",
    "neighbors",
    "partition",
    "region_hierarchy",
    "rule",
    "templates",
    "verify",
]
