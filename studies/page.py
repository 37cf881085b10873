"""Tables in Markdown, and their places in a page, between the marks that keep them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers: bool = True) -> str:
    """A Markdown table, or a line that says that there is nothing yet."""
    body = [[str(cell) for cell in row] for row in rows]
    if not body:
        return "Nothing here is complete yet.\n"
    ruler = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ruler, *body))


def renewed(text: str, tables: Mapping[str, str]) -> str:
    """The page with its tables renewed."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{tables[match[1]]}<!-- end -->"

    found, places = re.subn(r"<!-- table (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)
    if not places:
        raise ValueError("the page has no place for a table: its marks are gone")
    return found


def renew(page: Path, tables: Mapping[str, str]) -> None:
    """Renew a page on disk."""
    page.write_text(renewed(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
