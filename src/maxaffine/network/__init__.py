"""SplineNetwork, the captured network, and its check against the user's untouched module."""

from maxaffine.network.attributes import kept_attributes
from maxaffine.network.changes import PARTS, changed_attributes, same
from maxaffine.network.copying import FAILURES, copied
from maxaffine.network.inputs import InputSpec
from maxaffine.network.rerun import Rerun, foreign, rerun, run_on_copies
from maxaffine.network.residuals import difference, judged, size, without_infinities
from maxaffine.network.spline_network import Ending, SplineNetwork
from maxaffine.network.task import Task, require_classes
from maxaffine.network.terms import origin, terms
from maxaffine.network.verify import ExactnessReport, rounding_bound, verify

__all__ = [
    "FAILURES",
    "PARTS",
    "Ending",
    "ExactnessReport",
    "InputSpec",
    "Rerun",
    "SplineNetwork",
    "Task",
    "changed_attributes",
    "copied",
    "difference",
    "foreign",
    "judged",
    "kept_attributes",
    "origin",
    "require_classes",
    "rerun",
    "rounding_bound",
    "run_on_copies",
    "same",
    "size",
    "terms",
    "verify",
    "without_infinities",
]
