"""The run-time type checker that the tests put on every function of the library (installed by conftest.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeVar

from beartype import beartype

_Function = TypeVar("_Function", bound=Callable)


def check(function: _Function) -> _Function:
    """Apply beartype, less the hint ``Self``: a method alone, without its class, gives it no meaning."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if hint not in ("Self", Self)}
    return beartype(function)
