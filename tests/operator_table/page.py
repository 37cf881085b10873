"""docs/operators.md: what capture answers to every row, as a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import maxaffine as ma
from tests.operator_table import SECTIONS
from tests.operator_table.excluded import EXCLUDED, TORCH
from tests.operator_table.outcome import outcome
from tests.operator_table.row import Row

HEAD = """\
# Operators

What `capture` answers to every class of `torch.nn` and every function of `torch.nn.functional` (here `F`) of PyTorch
{version}, each with the options that change it: {exact} uses are captured exactly, {refused} are refused.

*Exact* means: at random inputs in double precision, A x + b is the untouched module's output and A is its Jacobian,
entry by entry. *Refused* means: `capture` raises an error that says why and what to do; nothing is ever approximated.
An operator without a line of its own here (`torch.maximum`, `torch.sort`, `torch.einsum`, ...) is captured by the same
rules; an operator of your own needs a [rule](howto-rule.md).

*pieces* is the largest number of affine pieces of one unit (1: the operator is affine). *convex*: every output is
provably convex in the input. *continuous*: no operator jumps. Options not shown are PyTorch's defaults; modules are in
evaluation mode unless the options say training.

This page is written by `make docs-operators`; the tests check that it is up to date.
"""

AFFINE = ("operator", "options", "pieces", "convex", "continuous")
REFUSED = ("operator", "options", "why", "what to do")


def page() -> str:
    """The whole page, with one section per family of operators."""
    rows = [row for section in SECTIONS.values() for row in section]
    exact = sum(row.exact for row in rows)
    parts = [HEAD.format(version=".".join(map(str, TORCH)), exact=exact, refused=len(rows) - exact)]
    for title, section in SECTIONS.items():
        parts += [f"## {title}\n", *_tables(section)]
    parts += ["## Left out\n", _table(("name", "why"), ((f"`{name}`", reason) for name, reason in EXCLUDED.items()))]
    return "\n".join(parts)


def _tables(rows: Sequence[Row]) -> list[str]:
    exact = [line for row in rows if row.exact for line in _exact_line(row)]
    refused = [line for row in rows if not row.exact for line in _refused_line(row)]
    return [_table(AFFINE, exact)] * bool(exact) + ["Refused:\n", _table(REFUSED, refused)] * bool(refused)


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _exact_line(row: Row) -> list[tuple[str, ...]]:
    net = outcome(row)
    if not isinstance(net, ma.SplineNetwork):
        return []
    pieces = max((record.pieces for record in net.operators), default=1)
    continuous = all(record.continuous for record in net.operators)
    return [(f"`{row.operator}`", row.variant, str(pieces), _yes(net.convex), _yes(continuous))]


def _refused_line(row: Row) -> list[tuple[str, ...]]:
    error = outcome(row)
    if not isinstance(error, ma.MaxAffineError):
        return []
    reason, cure = explained(error)
    limit = f" (a known limit: {row.though_affine})" if row.though_affine else ""
    return [(f"`{row.operator}`", row.variant, reason + limit, cure)]


def explained(error: ma.MaxAffineError) -> tuple[str, str]:
    """Reason and cure of a refusal; an error that is no refusal of one operator has both in its text."""
    if isinstance(error, ma.NotPiecewiseAffine):
        return f"`{error.operator}`: {error.reason}", error.cure
    reason, _, cure = re.sub(r"^\w+: ", "", str(error)).partition(". Cure: " if ". Cure: " in str(error) else "; ")
    return reason, cure


def _yes(value: bool) -> str:
    return "yes" if value else "no"
