"""Rows of words as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table of plain words, its first row the column titles.

    Args:
        rows: The cells; every word is escaped.
        caption: A line above the table.

    Returns:
        HTML.

    >>> html_table([("operator", "pieces"), ("relu", "2")])
    '<table><tr><th>operator</th><th>pieces</th></tr><tr><td>relu</td><td>2</td></tr></table>'
    """
    head, *body = rows
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{_row(head, 'th')}{''.join(_row(row, 'td') for row in body)}</table>"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
