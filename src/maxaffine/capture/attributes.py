"""The attributes of a module's parts, as they were before it ran: a forward pass may count, keep or append."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import nn


@contextlib.contextmanager
def kept_attributes(model: nn.Module) -> Iterator[None]:
    """Put every attribute of a module and of its parts back behind the block, and what containers among them held.

    Args:
        model: The module.

    Yields:
        Nothing.

    >>> layer = nn.Linear(2, 3)
    >>> with kept_attributes(layer):
    ...     layer.training, layer.calls = False, 1
    >>> layer.training, hasattr(layer, "calls")
    (True, False)
    """
    saved = [(vars(module), {k: (v, _contents(v)) for k, v in vars(module).items()}) for module in model.modules()]
    try:
        yield
    finally:
        for attributes, before in saved:
            attributes.clear()
            attributes.update((key, _refilled(value, contents)) for key, (value, contents) in before.items())


def _contents(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list | set | deque) else None


def _refilled(value: Any, contents: Any) -> Any:
    """A container with its earlier contents, the container itself the same object."""
    if contents is not None:
        value.clear()
        value.extend(contents) if isinstance(value, list | deque) else value.update(contents)
    return value
