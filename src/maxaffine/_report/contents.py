"""Everything that a report says, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from maxaffine._graph import OperatorRecord
from maxaffine._report.audit import Audit
from maxaffine._report.facts import Accuracy, Check, Choices, Hint, LeftOut, Neighborhoods, Origin
from maxaffine._report.sections.answers import Answer, exact
from maxaffine._report.sections.cut import Cut
from maxaffine._report.subject import Meaning, title_of
from maxaffine._templates import Memorization


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything that a report says.

    Attributes:
        origin: Where network and data come from.
        choices: What was asked for; how much of it was affordable, the sections say.
        meaning: What the outputs stand for.
        units: Shape of one input's output.
        operators: The operator table.
        convex: Whether every output is provably convex in the input.
        checks: The exactness checks.
        accuracy: Of the answers to test inputs; None where the outputs do not say a class of the data.
        answers: Templates, splits and runner-ups of some test inputs.
        memory: How far the templates are those of a network that has memorized its data.
        neighbors: Nearest training inputs at every depth.
        audit: Near-duplicates and label errors of the training set.
        cut: The regions of a plane through three of the inputs.
        hints: What to try next.
    """

    origin: Origin
    choices: Choices
    meaning: Meaning
    units: tuple[int, ...]
    operators: tuple[OperatorRecord, ...]
    convex: bool
    checks: tuple[Check, ...]
    accuracy: Accuracy | None
    answers: tuple[Answer, ...]
    memory: Memorization | LeftOut
    neighbors: Neighborhoods | LeftOut
    audit: Audit | LeftOut
    cut: Cut | LeftOut
    hints: tuple[Hint, ...] = ()

    @property
    def held(self) -> tuple[OperatorRecord, ...]:
        """The smooth operators, whose gates are held at each input."""
        return tuple(record for record in self.operators if record.held)

    @property
    def exact(self) -> bool:
        """Whether no check found more than rounding: of the maps, of the sums at the inputs shown, of the plane."""
        checked = all(check.report.exact for check in self.checks if check.report is not None)
        return checked and exact(self.answers) and (isinstance(self.cut, LeftOut) or self.cut.check.exact)

    @property
    def titles(self) -> dict[str, str]:
        """What to call each operator, by its name."""
        return {record.name: title_of(record) for record in self.operators}

    @property
    def piecewise(self) -> tuple[OperatorRecord, ...]:
        """The operators with more than one piece."""
        return tuple(record for record in self.operators if record.pieces > 1)

    @property
    def piecewise_units(self) -> int:
        """How many units they have together."""
        return sum(prod(record.units) for record in self.piecewise)
