"""What a network treats alike: neighbors of test inputs, and what they say about the training set."""

from collections.abc import Sequence
from dataclasses import dataclass

from maxaffine._drawing import text_table
from maxaffine._report.audit import Audit, audit_lines, audit_of
from maxaffine._report.facts import LeftOut, Neighbor, Neighborhoods, Origin
from maxaffine._report.neighbors import neighbors_among, searched_inputs
from maxaffine._report.sections.origin import origin_of
from maxaffine._report.subject import Meaning, Subject, spread_evenly
from maxaffine.errors import BadInput


@dataclass(frozen=True)
class Lookup:
    """Neighborhoods of some test inputs."""

    origin: Origin
    meaning: Meaning
    neighbors: Neighborhoods
    audit: Audit | None  # None where nobody asked


def look_up(subject: Subject, queries: Sequence[int] | None = None, audit: bool = False) -> Lookup:
    """Find the neighbors of test inputs (some evenly spaced ones by default) among the training inputs."""
    data, choices = subject.data, subject.choices
    searched = searched_inputs(subject, choices)
    if isinstance(searched, LeftOut):
        # A sentence of the page becomes the cause of a refusal.
        reason = f"{searched.reason[0].lower()}{searched.reason[1:-1]}"
        raise BadInput(f"operators: {reason}; name others, or try another network")
    chosen = spread_evenly(len(data.test), choices.images).tolist() if queries is None else list(queries)
    if outside := [index for index in chosen if not 0 <= index < len(data.test)]:
        raise BadInput(f"queries: no test input {outside[0]}; they are numbered from 0 to {len(data.test) - 1}")
    found = neighbors_among(searched, subject, chosen, choices)
    return Lookup(origin_of(subject), subject.meaning, found, audit_of(searched, subject) if audit else None)


def lookup_text(lookup: Lookup) -> str:
    """Write a lookup as tables."""
    found = lookup.neighbors
    what = ", ".join(lookup.origin.target_names) or "class"
    lines = [
        f"{lookup.origin.model}: {lookup.origin.weights}",
        f"nearest of {found.encoded:,} training inputs: number, {what}, distance",
        *([found.left_out_words] if found.left_out else []),
    ]
    for query in found.queries:
        other = "" if lookup.origin.target_names else " (≠: another class)"
        lines += ["", f"test input {query.index}, {what} {query.label}{other}"]
        lines.append(text_table([(name, *map(_cell, layer)) for name, layer in query.layers], "  "))
    if found.shares:
        lines += ["", f"share of the {found.count} nearest with the query's class, over {found.probes} test inputs"]
        shares = [*found.shares, ("drawn at random", found.chance)]
        lines.append(text_table([(name, f"{share:.1%}") for name, share in shares], "  "))
    return "\n".join(lines + (audit_lines(lookup.audit) if lookup.audit else []))


def _cell(near: Neighbor) -> str:
    return f"{'' if near.same else '≠'}{near.index} {near.label} {near.distance:.3f}"
