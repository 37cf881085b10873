"""The optional packages that draw and show, asked for in one place."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from maxaffine.errors import MaxAffineError


def require(what: str, packages: Sequence[str] = ("matplotlib",), extra: str = "report") -> None:
    """Check, before any work is spent, that the packages of an extra are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MaxAffineError(
            f"{what} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            f"run pip install 'maxaffine[{extra}]'"
        )
