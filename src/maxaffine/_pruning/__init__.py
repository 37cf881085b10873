"""Units that a network can do without: found, proved, removed; how redundant each is, and when that is known."""

from maxaffine._pruning.audit import Audit, LayerAudit, audit
from maxaffine._pruning.early_bird import EarlyBird
from maxaffine._pruning.findings import Finding
from maxaffine._pruning.importance import SplineImportance
from maxaffine._pruning.simplify import Removal, Simplified, simplify
