"""The optional packages of the report, asked for in one place."""

from __future__ import annotations

from maxaffine import _drawing as drawing

NEEDED = ("matplotlib", "jinja2", "PIL", "scipy")


def require() -> None:
    """Check, before any work is spent, that the packages which draw and lay out the page are installed.

    Raises:
        MaxAffineError: When one of them is absent; names it and the extra that holds it.
    """
    drawing.require("a report", NEEDED)
