"""Functions whose code in PyTorch asks for sizes as numbers, written with others that leave sizes open.

Traced as they are, they fix the number of samples, though they treat each sample alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


def _take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Entries read along an axis, the others of both tensors broadcast."""
    if dim is None:
        return x.flatten().gather(0, indices.flatten())
    others = indices.narrow(dim, 0, 1).shape, x.narrow(dim, 0, 1).shape
    sizes = list(torch.broadcast_shapes(*others))
    sizes[dim] = -1
    return x.expand(sizes).gather(dim, indices.expand(sizes))


WRITTEN: dict[Callable, Callable] = {
    torch.take_along_dim: _take_along_dim,
    Tensor.take_along_dim: _take_along_dim,
}


class Rewritten(TorchFunctionMode):
    """While it is active, calls of these functions run what is written here."""

    @no_type_check  # whoever wraps functions to check types would stand between PyTorch and the line of the user's
    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the function, or what is written in its place."""
        return WRITTEN.get(func, func)(*args, **(kwargs or {}))
