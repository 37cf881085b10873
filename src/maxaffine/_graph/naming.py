"""Traced operators by name: PyTorch's own objects for them cannot be pickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from maxaffine.errors import ModelError


class Named(NamedTuple):
    """An operator of PyTorch, or of a library that extends it.

    Attributes:
        library: Its namespace, e.g. ``aten``.
        operator: Its name there, e.g. ``add``.
        overload: Which of its overloads, e.g. ``Tensor``.
    """

    library: str
    operator: str
    overload: str


def saved_target(target: Callable) -> Any:
    """What to write of a traced operator into a file: its name; any other function writes itself."""
    if not isinstance(target, torch._ops.OpOverload):
        return target
    library, operator = target._schema.name.split("::")
    return Named(library, operator, target._overloadname)


def loaded_target(saved: Any) -> Any:
    """The traced operator again.

    Args:
        saved: What ``saved_target`` gave.

    Returns:
        The operator.

    Raises:
        ModelError: When its library is not loaded in this process.
    """
    if not isinstance(saved, Named):
        return saved
    try:
        return getattr(getattr(getattr(torch.ops, saved.library), saved.operator), saved.overload)
    except AttributeError as error:
        raise ModelError(
            f"network: its operator {saved.library}.{saved.operator} is unknown in this process; import what registers"
            " it, then load the network"
        ) from error
