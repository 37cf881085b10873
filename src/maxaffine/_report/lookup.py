"""What a network treats alike: neighbors of test inputs, and what they say about the training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maxaffine._report.audit import Audit, audit_lines, audit_of
from maxaffine._report.facts import LeftOut, Neighbor, Neighborhoods, Origin
from maxaffine._report.neighbors import neighbors_among, searched_inputs
from maxaffine._report.sections.origin import origin_of
from maxaffine._report.subject import Meaning, Subject, spaced
from maxaffine.errors import BadInput


@dataclass(frozen=True)
class Lookup:
    """Neighborhoods of some test inputs.

    Attributes:
        origin: Where network and data come from.
        meaning: What the outputs stand for.
        neighbors: The nearest training inputs.
        audit: What the codes say about the training set; None where nobody asked.
    """

    origin: Origin
    meaning: Meaning
    neighbors: Neighborhoods
    audit: Audit | None


def look_up(subject: Subject, queries: Sequence[int] | None = None, audited: bool = False) -> Lookup:
    """Find the neighbors of test inputs among the training inputs.

    Args:
        subject: The network, the data, and what to look at.
        queries: Numbers of the test inputs; some evenly spaced ones by default.
        audited: Whether to look for near-duplicates and label errors too.

    Returns:
        The numbers.

    Raises:
        BadInput: If the network has no piecewise-affine operator or none switches, or a query or operator is not there.
    """
    data, choices = subject.data, subject.choices
    searched = searched_inputs(subject, choices)
    if isinstance(searched, LeftOut):
        reason = f"{searched.reason[0].lower()}{searched.reason[1:-1]}"
        raise BadInput(f"operators: {reason}; name others, or try another network")
    chosen = spaced(len(data.test), choices.images).tolist() if queries is None else list(queries)
    if outside := [index for index in chosen if not 0 <= index < len(data.test)]:
        raise BadInput(f"queries: no test input {outside[0]}; they are numbered from 0 to {len(data.test) - 1}")
    found = neighbors_among(searched, subject, chosen, choices)
    audit = audit_of(searched, subject) if audited else None
    return Lookup(origin_of(subject), subject.meaning, found, audit)


def lookup_text(lookup: Lookup) -> str:
    """Write a lookup as tables.

    Args:
        lookup: The numbers.

    Returns:
        Lines of text.
    """
    found = lookup.neighbors
    width = max(len(name) for name, _ in (*found.queries[0].layers, *found.shares))
    lines = [
        f"{lookup.origin.model}: {lookup.origin.weights}",
        f"nearest of {found.encoded:,} training inputs: number, class, distance",
        *([found.left_out_words] if found.left_out else []),
    ]
    for query in found.queries:
        lines += ["", f"test input {query.index}, class {query.label} (≠: another class)"]
        lines += [f"  {name.ljust(width)}  {'  '.join(map(_cell, layer))}" for name, layer in query.layers]
    if found.shares:
        lines += ["", f"share of the {found.count} nearest with the query's class, over {found.probes} test inputs"]
        shares = [*found.shares, ("drawn at random", found.chance)]
        lines += [f"  {name.ljust(width)}  {share:.1%}" for name, share in shares]
    return "\n".join(lines + (audit_lines(lookup.audit) if lookup.audit else []))


def _cell(near: Neighbor) -> str:
    return f"{'' if near.same else '≠'}{near.index} {near.label} {near.distance:.3f}"
