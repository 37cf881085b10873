"""Network, the captured network, and its check against the user's untouched module."""

from maxaffine._network.changes import PARTS, changed_attributes, same
from maxaffine._network.copying import FAILURES, copied
from maxaffine._network.inputs import InputSpec
from maxaffine._network.network import Ending, Network
from maxaffine._network.rerun import Rerun, foreign, rerun, run_on_copies
from maxaffine._network.residuals import difference, judged, size, without_infinities
from maxaffine._network.shares import shares
from maxaffine._network.task import Task, require_classes
from maxaffine._network.terms import origin, terms
from maxaffine._network.verify import ExactnessReport, rounding_bound, verify

__all__ = [
    "FAILURES",
    "PARTS",
    "Ending",
    "ExactnessReport",
    "InputSpec",
    "Rerun",
    "Network",
    "Task",
    "changed_attributes",
    "copied",
    "difference",
    "foreign",
    "judged",
    "origin",
    "require_classes",
    "rerun",
    "rounding_bound",
    "run_on_copies",
    "same",
    "shares",
    "size",
    "terms",
    "verify",
    "without_infinities",
]
