"""What every partition says of an operator whose boundaries it cannot follow."""

from __future__ import annotations

from maxaffine._graph import Comparisons, Contest, Step
from maxaffine.errors import NotPiecewiseAffine


def known_boundaries(step: Step) -> Comparisons | Contest:
    """The boundaries of the operator of a step with pieces, of one of the two families that partitions know."""
    boundaries = step.operator.boundaries()
    if isinstance(boundaries, Comparisons | Contest):
        return boundaries
    reason = f"where {type(step.operator).__name__} changes its piece is not known"
    raise NotPiecewiseAffine(*refusal(step, reason, "give it a method boundaries(), as docs/howto-rule.md shows"))


def refusal(step: Step, reason: str, cure: str) -> tuple[str, str, str, str, str]:
    """The arguments of NotPiecewiseAffine for a step's operator."""
    record = step.records[0]
    return record.name, reason, cure, record.module_path, record.source
