"""Checks of tensor arguments that the whole room shares."""

from __future__ import annotations

import torch
from torch import Tensor

from maxaffine.errors import BadInput, ShapeMismatch


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinities (not while torch traces or compiles: the answer would depend on the data).

    Args:
        name: Argument to name in the error.
        value: Its value.

    Raises:
        BadInput: It holds NaN or infinity.
    """
    if not torch.compiler.is_compiling() and not bool(torch.isfinite(value).all()):
        raise BadInput(f"{name} holds NaN or infinite values; replace or drop them first")


def check_rows(x: Tensor, like: Tensor) -> None:
    """Refuse anything but a non-empty batch (N, D) of finite rows of the D, dtype and device of `like` (..., D).

    Args:
        x: The argument.
        like: A tensor to agree with.

    Raises:
        ShapeMismatch: Another shape, dtype or device.
        BadInput: An empty batch, NaN or infinity.
    """
    if x.ndim != 2 or x.shape[1] != like.shape[-1]:
        raise ShapeMismatch(
            f"x has shape {tuple(x.shape)} but (N, {like.shape[-1]}) is needed; flatten each input to a row"
        )
    if x.dtype != like.dtype or x.device != like.device:
        raise ShapeMismatch(
            f"x is {x.dtype} on {x.device} but the slopes are {like.dtype} on {like.device}; convert one with .to(...)"
        )
    if x.shape[0] == 0:
        raise BadInput("x is an empty batch; give at least one row")
    check_finite("x", x)
