"""The classes of inputs, as whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maxaffine.errors import BadInput


def as_classes(labels: Tensor | Sequence[int], count: int) -> Tensor:
    """Check the labels of inputs.

    Args:
        labels: Integers.
        count: How many there must be.

    Returns:
        (count,) int64, on the CPU.

    Raises:
        BadInput: If they are something else.
    """
    try:
        given = torch.as_tensor(labels).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"labels: they cannot be read ({error}); give {count} integers, one for each input") from error
    if given.shape != (count,) or given.is_floating_point() or given.is_complex():
        found = f"{given.dtype} of shape {tuple(given.shape)}"
        raise BadInput(f"labels: {found}; give {count} integers, one for each input")
    return given.long()
