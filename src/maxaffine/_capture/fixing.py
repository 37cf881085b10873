"""Where a module's code fixes a size that the tracer left open."""

from __future__ import annotations

import contextlib
import importlib
import traceback
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

import torch

TORCH = str(Path(torch.__file__).parent)
LIBRARIES = (TORCH, str(Path(__file__).parent.parent))  # we stand between PyTorch and the user where we rewrite a call


@contextlib.contextmanager
def fixing_lines() -> Iterator[list[str]]:
    """Note the lines of the user's code that turn an open size into a number while a module is traced.

    Yields:
        The lines, ``file:line``, in the order in which they run; empty where PyTorch does not say.
    """
    lines: list[str] = []
    shapes: Any = importlib.import_module("torch.fx.experimental.symbolic_shapes").ShapeEnv  # with sympy, half a second
    replaced: Any = getattr(shapes, "_set_replacement", None)  # PyTorch's own, so it may go away

    def noted(self: Any, symbol: Any, target: Any, *rest: Any) -> Any:
        if getattr(target, "is_number", False):
            lines.extend(_own_lines())
        return replaced(self, symbol, target, *rest)

    if replaced is None:
        yield lines
        return
    shapes._set_replacement = noted
    try:
        yield lines
    finally:
        shapes._set_replacement = replaced


def _own_lines() -> list[str]:
    """The line of the user's that called PyTorch, which is asking now; none outside a forward."""
    inner = dropwhile(lambda frame: not frame.filename.startswith(TORCH), reversed(traceback.extract_stack()))
    outside = list(dropwhile(lambda frame: frame.filename.startswith(LIBRARIES), inner))
    if not any(frame.name == "forward" for frame in outside):
        return []
    return [f"{outside[0].filename}:{outside[0].lineno}: {outside[0].line}"]
