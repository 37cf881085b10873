"""The operators of a network as a table, for a terminal and for a notebook."""

from __future__ import annotations

from html import escape
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxaffine.network.spline_network import SplineNetwork

HEADER = ("operator", "kind", "units", "pieces", "convex", "continuous")


def _rows(network: SplineNetwork) -> list[tuple[str, ...]]:
    return [
        (
            record.name,
            record.kind,
            " x ".join(map(str, record.units)) or "1",
            str(record.pieces),
            "yes" if record.convex else "no",
            "yes" if record.continuous else "no",
        )
        for record in network.operators
    ]


def summary(network: SplineNetwork) -> str:
    """One line: how many operators and units, and whether the network is convex in its input."""
    pieced = [record for record in network.operators if record.pieces > 1]
    units = sum(prod(record.units) for record in pieced)
    convex = "convex in its input" if network.convex else "not shown to be convex in its input"
    answers = ", ".join(network.task(place).value for place in range(len(network.graph.outputs)))
    mapped = "; one sample was traced alone, and is mapped over the batch" if network.mapped else ""
    pieces = f"{len(network.operators)} operators, {len(pieced)} of them piecewise affine with {units:,} units"
    return f"{pieces}; {convex}{mapped}; answers: {answers}"


def text_table(network: SplineNetwork) -> str:
    """The table as text."""
    rows = [HEADER, *_rows(network)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"SplineNetwork: {summary(network)}", *lines])


def html_table(network: SplineNetwork) -> str:
    """The table as HTML; piecewise-affine operators stand out."""
    head = "".join(f"<th>{name}</th>" for name in HEADER)
    body = "".join(_html_row(row) for row in _rows(network))
    return f"<p><b>SplineNetwork</b>: {escape(summary(network))}</p><table><tr>{head}</tr>{body}</table>"


def _html_row(row: tuple[str, ...]) -> str:
    weight = "normal" if row[3] == "1" else "600"
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
    return f'<tr style="font-weight:{weight}">{cells}</tr>'
