"""docs/operators.md: what capture answers to every row, as a page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import maxaffine as ma
from maxaffine._graph import TANGENT, OperatorRecord
from tests.operator_table import SECTIONS
from tests.operator_table.excluded import EXCLUDED, TORCH
from tests.operator_table.outcome import ASKS, outcome
from tests.operator_table.row import Row

HEAD = """\
# Operators

What `capture` answers to every class of `torch.nn` and every function of `torch.nn.functional` (here `F`) of PyTorch
{version}, each with the options that change it, and to some functions of `torch` that have rules of their own: {exact}
uses are captured exactly, {refused} are refused.

*Exact* means: at random inputs in double precision, A x + b is the untouched module's output and A is its Jacobian,
entry by entry. *Refused* means: `capture` raises an error that says why and what to do; nothing is ever approximated.
Of what is refused, the last column says what `smooth="frozen"` makes of it ([smooth networks](smooth-networks.md)):
what is held at the input, `u*` or `gate*`, and what is carried, `u`; *tangent* where a curve has no gate of its own; or
that it is refused there too. Each line is tested: A x + b is the module's output at random inputs, and A what the
module gives with its gates detached. Nothing is held in what is captured exactly: its map is the same.

An operator without a line of its own here (`torch.maximum`, `torch.sort`, `torch.einsum`, ...) is captured by the same
rules; an operator of your own needs a [rule](howto-rule.md).

*pieces* is the largest number of affine pieces of one unit (1: the operator is affine). *convex*: every output is
provably convex in the input. *continuous*: no operator jumps. Options not shown are PyTorch's defaults; modules are in
evaluation mode unless the options say training.

This page is written by `make docs-operators`; the tests check that it is up to date.
"""

AFFINE = ("operator", "options", "pieces", "convex", "continuous")
REFUSED = ("operator", "options", "why", "what to do", 'with `smooth="frozen"`')


def page(cells: Callable[[Row], Sequence[str]] | None = None) -> str:
    """The whole page, with one section per family of operators.

    Args:
        cells: What stands in the line of a row, in place of what capture answers to it.

    Returns:
        Markdown.
    """
    cells = cells or cells_of
    rows = [row for section in SECTIONS.values() for row in section]
    exact = sum(row.exact for row in rows)
    parts = [HEAD.format(version=".".join(map(str, TORCH)), exact=exact, refused=len(rows) - exact)]
    for title, section in SECTIONS.items():
        parts += [f"## {title}\n", *_tables(section, cells)]
    parts += ["## Left out\n", _table(("name", "why"), ((f"`{name}`", reason) for name, reason in EXCLUDED.items()))]
    return "\n".join(parts)


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |\n"


def cells_of(row: Row) -> tuple[str, ...]:
    """What capture answers to a row, beside its name and its options."""
    answer = outcome(row)
    if isinstance(answer, ma.SplineNetwork):
        pieces = max((record.pieces for record in answer.operators), default=1)
        continuous = all(record.continuous for record in answer.operators)
        return (*named(row), str(pieces), _yes(answer.convex), _yes(continuous))
    reason, cure = explained(answer)
    limit = f" (a known limit: {row.though_affine})" if row.though_affine else ""
    return (*named(row), reason + limit, cure, _frozen(row, reason))


def _frozen(row: Row, reason: str) -> str:
    """What is held of a row, or why it is refused where gates are held too."""
    answer = outcome(row, "frozen")
    if not isinstance(answer, ma.SplineNetwork):
        why, _ = explained(answer)
        asks = ASKS.search(why)
        return (
            f"asks which carries, {asks[1]} or {asks[2]}" if asks else "refused" + (f": {why}" if why != reason else "")
        )
    # Each formula once; of several, each after its operator's name.
    found = dict.fromkeys((record.kind, _formula(record)) for record in answer.held)
    return "; ".join(formula if len(found) == 1 else f"{kind} {formula}" for kind, formula in found)


def _formula(record: OperatorRecord) -> str:
    """What is held of an operator; the factors of a product by what computes them, x where it is the input."""
    if record.held == TANGENT:
        return "tangent"
    formula = record.held
    if "carrier" in formula:
        # Without the modules and the numbers in their names; by their place in the call where both are one.
        carrier, *gates = (
            re.sub(r".*\((\w+)\)$|(?:\w+\.)+|#\d+", r"\1", word).replace("the input", "x")
            for word in (record.carrier, *record.gates)
        )
        formula = formula.replace("gate*", "* ".join(gates) + "*").replace("carrier", carrier)
    return f"`{formula}`".replace("|", "\\|")


def named(row: Row) -> tuple[str, str]:
    """The name and the options of a row."""
    return f"`{row.operator}`", row.variant


def _tables(rows: Sequence[Row], cells: Callable[[Row], Sequence[str]]) -> list[str]:
    exact, refused = ([cells(row) for row in rows if row.exact is which] for which in (True, False))
    return [_table(AFFINE, exact)] * bool(exact) + ["Refused:\n", _table(REFUSED, refused)] * bool(refused)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(map(line, [header, ["---"] * len(header), *lines]))


def explained(error: ma.MaxAffineError) -> tuple[str, str]:
    """Reason and cure of a refusal; an error that is no refusal of one operator has both in its text."""
    if isinstance(error, ma.NotPiecewiseAffine):
        return f"`{error.operator}`: {error.reason}", error.cure
    text = re.sub(r" \(at .*\)(?=, so )", "", str(error))  # the line, which is one of this table
    reason, _, cure = re.sub(r"^\w+: ", "", text).partition(". Cure: " if ". Cure: " in str(error) else "; ")
    return reason, cure


def _yes(value: bool) -> str:
    return "yes" if value else "no"
