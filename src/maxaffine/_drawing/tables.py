"""Rows of words as a table, for a terminal and for a notebook."""

import re
from collections.abc import Collection, Iterable, Sequence
from html import escape

_NUMBER = re.compile(r"[-−+]?[\d.,]*%?")


def text_table(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """A table of plain words, its first row the column titles; columns of numbers end on the right."""
    rows = list(rows)
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    # The first column holds names, also where a module is called "0", and stays on the left.
    right = [place > 0 and all(map(_NUMBER.fullmatch, column[1:])) for place, column in enumerate(columns)]
    lines = (
        "  ".join(f"{cell:{'>' if end else '<'}{width}}" for cell, width, end in zip(row, widths, right, strict=True))
        for row in rows
    )
    return "\n".join(indent + line.rstrip() for line in lines)


def html_table(rows: Iterable[Sequence[str]], caption: str = "", strong: Collection[int] = ()) -> str:
    """The same for a notebook, every word escaped; ``strong`` rows stand out, counted from 1 after the titles."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = []
    for number, row in enumerate(rows):
        tag, style = "td" if number else "th", ' style="font-weight:600"' if number in strong else ""
        lines.append(f"<tr{style}>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)}</tr>")
    return f"<table>{title}{''.join(lines)}</table>"


class Tabular:
    """A result that is shown as a table under its title, on a terminal and in a notebook."""

    def _title(self) -> str:
        raise NotImplementedError

    def _table(self) -> list[tuple[str, ...]]:
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return the title and the table."""
        return f"{self._title()}\n{text_table(self._table(), '  ')}"

    def _repr_html_(self) -> str:
        return html_table(self._table(), self._title())
