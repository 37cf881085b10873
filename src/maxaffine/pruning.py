"""Units that a network can do without: found, proved and removed; how redundant each is, and when that is known."""

from maxaffine._pruning import (
    Audit,
    EarlyBird,
    Finding,
    LayerAudit,
    Removal,
    Simplified,
    SplineImportance,
    audit,
    simplify,
)

__all__ = [
    "Audit",
    "EarlyBird",
    "Finding",
    "LayerAudit",
    "Removal",
    "Simplified",
    "SplineImportance",
    "audit",
    "simplify",
]
