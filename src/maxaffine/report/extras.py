"""The optional packages of the report, asked for in one place."""

from __future__ import annotations

import importlib.util

from maxaffine.errors import MaxAffineError

NEEDED = ("matplotlib", "jinja2", "PIL")


def require() -> None:
    """Check, before any work is spent, that the packages which draw and lay out the page are installed.

    Raises:
        MaxAffineError: When one of them is absent; names it and the extra that holds it.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MaxAffineError(
            f"a report needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            "run pip install 'maxaffine[report]'"
        )
