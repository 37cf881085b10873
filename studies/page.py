"""Puts the tables into the page, between the marks that keep their places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def renewed(text: str, tables: Mapping[str, str]) -> str:
    """The page with its tables renewed.

    Args:
        text: Markdown with places ``<!-- table NAME -->`` ... ``<!-- end -->``.
        tables: Markdown by name.

    Returns:
        The page.

    Raises:
        KeyError: A place names no table.
    """

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{tables[match[1]]}<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def renew(page: Path, tables: Mapping[str, str]) -> None:
    """Renew a page on disk.

    Args:
        page: The file.
        tables: Markdown by name.
    """
    page.write_text(renewed(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
