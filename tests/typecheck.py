"""The run-time type checker that the tests put on every function of the library (installed by conftest.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeVar

from beartype import beartype

_Function = TypeVar("_Function", bound=Callable)


def check(function: _Function) -> _Function:
    """Apply beartype to one function; it cannot judge ``Self`` on a method without its class, so that hint is left out."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if hint not in ("Self", Self)}
    return beartype(function)
