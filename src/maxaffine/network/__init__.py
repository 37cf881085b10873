"""SplineNetwork, the captured network, and its check against the user's untouched module."""

from maxaffine.network.inputs import InputSpec
from maxaffine.network.rerun import Rerun, rerun, run_on_copies
from maxaffine.network.spline_network import Ending, SplineNetwork
from maxaffine.network.task import Task, require_classes
from maxaffine.network.verify import ExactnessReport, rounding_bound, verify

__all__ = [
    "Ending",
    "ExactnessReport",
    "InputSpec",
    "Rerun",
    "SplineNetwork",
    "Task",
    "require_classes",
    "rerun",
    "rounding_bound",
    "run_on_copies",
    "verify",
]
