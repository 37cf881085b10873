"""Docstrings name shapes as Python writes them, ``(N, *units)``; reStructuredText would read markup into them."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_LITERAL = re.compile(r"(`+.+?`+)")
_MARKUP = re.compile(r"[*|]")


def _escape(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    code = False
    for number, line in enumerate(lines):
        code = line.lstrip().startswith((">>>", "...", ".. ")) or (code and bool(line.strip()))
        if not code:
            parts = _LITERAL.split(line)
            lines[number] = "".join(part if part.startswith("`") else _MARKUP.sub(r"\\\g<0>", part) for part in parts)


def _sentence(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Put together again what napoleon took for a property's type: the words before a colon."""
    places = [number for number, line in enumerate(lines) if line.startswith(":type: ")]
    if what in ("property", "attribute") and places:
        lines[0] = f"{lines[places[0]].removeprefix(':type: ')}: {lines[0]}"
        del lines[places[0]]


def setup(app: Sphinx) -> dict[str, Any]:
    """Escape before napoleon reads the sections, and mend after it."""
    app.connect("autodoc-process-docstring", _escape, priority=400)
    app.connect("autodoc-process-docstring", _sentence, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
