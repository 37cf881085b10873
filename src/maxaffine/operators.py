"""Teach `capture` an operator of your own: rules, and what a piecewise-affine operator says of itself."""

from maxaffine._capture import Call, batch, check_rule, rule
from maxaffine._graph import (
    Comparisons,
    Contest,
    Duels,
    Elementwise,
    Knots,
    LocalMap,
    Operator,
    Order,
    Pair,
    ScalarSpline,
    Traits,
)

__all__ = [
    "Call",
    "Comparisons",
    "Contest",
    "Duels",
    "Elementwise",
    "Knots",
    "LocalMap",
    "Operator",
    "Order",
    "Pair",
    "ScalarSpline",
    "Traits",
    "batch",
    "check_rule",
    "rule",
]
