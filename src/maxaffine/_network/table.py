"""The operators of a network as a table, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from maxaffine._graph import OperatorRecord

HEADER = ("operator", "kind", "units", "pieces", "convex", "continuous")


def _rows(records: Sequence[OperatorRecord]) -> list[tuple[str, ...]]:
    return [
        (
            record.name,
            record.kind,
            " x ".join(map(str, record.units)) or "1",
            str(record.pieces),
            "yes" if record.convex else "no",
            "yes" if record.continuous else "no",
        )
        for record in records
    ]


def text_table(summary: str, records: Sequence[OperatorRecord]) -> str:
    """The table as text, under a line about all of it."""
    rows = [HEADER, *_rows(records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"SplineNetwork: {summary}", *lines])


def html_table(summary: str, records: Sequence[OperatorRecord]) -> str:
    """The same as HTML; piecewise-affine operators stand out."""
    head = "".join(f"<th>{name}</th>" for name in HEADER)
    body = "".join(_html_row(row) for row in _rows(records))
    return f"<p><b>SplineNetwork</b>: {escape(summary)}</p><table><tr>{head}</tr>{body}</table>"


def _html_row(row: tuple[str, ...]) -> str:
    weight = "normal" if row[3] == "1" else "600"
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
    return f'<tr style="font-weight:{weight}">{cells}</tr>'
