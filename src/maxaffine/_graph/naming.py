"""Traced operators by name: PyTorch's own objects for them cannot be pickled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from maxaffine.errors import ModelError


class Named(NamedTuple):
    """An operator of PyTorch, or of a library that extends it."""

    library: str  # its namespace: aten
    operator: str  # its name there: add
    overload: str  # which of its overloads: Tensor


def saved_target(target: Callable) -> Any:
    """What to write of a traced operator into a file: its name; any other function writes itself."""
    if not isinstance(target, torch._ops.OpOverload):
        return target
    library, operator = target._schema.name.split("::")
    return Named(library, operator, target._overloadname)


def loaded_target(saved: Any) -> Any:
    """The traced operator again, of what ``saved_target`` gave; refused if its library is not loaded here."""
    if not isinstance(saved, Named):
        return saved
    try:
        return getattr(getattr(getattr(torch.ops, saved.library), saved.operator), saved.overload)
    except AttributeError as error:
        raise ModelError(
            f"network: its operator {saved.library}.{saved.operator} is unknown in this process; import what registers"
            " it, then load the network"
        ) from error
