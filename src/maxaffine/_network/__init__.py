"""Network, the captured network, and its check against the user's untouched module."""

from maxaffine._network.copying import FAILURES, PARTS, changed_attributes, copy_module, same
from maxaffine._network.inputs import InputSpec
from maxaffine._network.network import Ending, Network, output_names
from maxaffine._network.recurrences import TimedRecurrence, timed_recurrences
from maxaffine._network.rerun import foreign, rerun, run_on_copies
from maxaffine._network.rounding import (
    difference,
    largest,
    origin,
    relative_error,
    rounding_bound,
    size,
    terms,
    without_infinities,
)
from maxaffine._network.sources import Recipe, Source, Sources
from maxaffine._network.task import Task, require_classes
from maxaffine._network.verify import ExactnessReport, verify
