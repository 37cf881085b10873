"""Everything that a report says, as one object."""

from dataclasses import dataclass
from math import prod

from maxaffine._graph import OperatorRecord
from maxaffine._report.audit import Audit
from maxaffine._report.facts import Accuracy, Check, Choices, Hint, LeftOut, Neighborhoods, Origin
from maxaffine._report.sections.answers import Answer
from maxaffine._report.sections.cut import Cut
from maxaffine._report.sections.fit import Fit
from maxaffine._report.sections.generated import Generated
from maxaffine._report.sections.level import LevelSet
from maxaffine._report.subject import Meaning, title_of
from maxaffine._templates import Memorization


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything that a report says."""

    origin: Origin
    choices: Choices  # what was asked for; how much of it was affordable, the sections say
    meaning: Meaning
    units: tuple[int, ...]  # shape of one input's output
    operators: tuple[OperatorRecord, ...]
    convex: bool  # provably, every output in the input
    checks: tuple[Check, ...]
    accuracy: Accuracy | None  # None where the outputs do not say a class of the data
    answers: tuple[Answer, ...]
    memory: Memorization | LeftOut
    neighbors: Neighborhoods | LeftOut
    audit: Audit | LeftOut
    cut: Cut | LeftOut
    hints: tuple[Hint, ...] = ()
    fit: Fit | LeftOut | None = None  # None where no targets are given, or the outputs are no values
    generated: Generated | LeftOut | None = None  # None where the outputs are no pictures
    level_set: LevelSet | LeftOut | None = None  # None of other inputs than three numbers

    @property
    def held(self) -> tuple[OperatorRecord, ...]:
        """The smooth operators, whose gates are held at each input."""
        return tuple(record for record in self.operators if record.held)

    @property
    def apart(self) -> tuple[float, ...]:
        """How far A is from the Jacobian at the inputs shown, relative to it, in order of size."""
        return tuple(sorted(answer.apart for answer in self.answers if answer.apart is not None))

    @property
    def exact(self) -> bool:
        """Whether no check found more than rounding: of the maps, of the sums at the inputs shown, of the plane."""
        checked = all(check.report.exact for check in self.checks if check.report is not None)
        sums = all(split.exact for answer in self.answers for split in answer.splits)
        return checked and sums and (isinstance(self.cut, LeftOut) or self.cut.check.exact)

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
