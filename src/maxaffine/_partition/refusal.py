"""What every partition says of an operator whose boundaries it cannot follow."""

from __future__ import annotations

from maxaffine._graph import Comparisons, Contest, Step
from maxaffine.errors import NotPiecewiseAffine


def known_boundaries(step: Step) -> Comparisons | Contest:
    """The boundaries of a step's operator.

    Args:
        step: A step whose first record has several pieces.

    Returns:
        Boundaries of one of the two families that partitions know.

    Raises:
        NotPiecewiseAffine: Where the operator does not give them.
    """
    boundaries = step.operator.boundaries()
    if isinstance(boundaries, Comparisons | Contest):
        return boundaries
    reason = f"where {type(step.operator).__name__} changes its piece is not known"
    raise NotPiecewiseAffine(*refusal(step, reason, "give it a method boundaries(), as docs/howto-rule.md shows"))


def refusal(step: Step, reason: str, cure: str) -> tuple[str, str, str, str, str]:
    """What NotPiecewiseAffine says of a step's operator.

    Args:
        step: The step.
        reason: What is wrong with it.
        cure: What to do.

    Returns:
        The arguments of the error.
    """
    record = step.records[0]
    return record.name, reason, cure, record.module_path, record.source
