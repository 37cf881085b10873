"""Checks of tensor arguments that the whole room shares."""

import torch
from torch import Tensor

from maxaffine.errors import BadInput, ShapeMismatch


def check_dense(name: str, value: object) -> None:
    """Refuse all but an ordinary tensor: an array, a list, a sparse or nested tensor, one without numbers."""
    if not isinstance(value, Tensor):
        raise BadInput(f"{name}: expected a torch.Tensor, got {type(value).__name__}; use torch.as_tensor")
    if value.layout is not torch.strided or value.is_nested or value.is_meta:
        raise BadInput(f"{name}: a {value.layout} tensor on {value.device}; give a dense one, on a real device")


def check_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinities."""
    # Not while torch traces or compiles: the answer would depend on the data.
    if not torch.compiler.is_compiling() and not bool(torch.isfinite(value).all()):
        raise BadInput(f"{name}: it holds NaN or infinite values; replace or drop them first")


def check_rows(x: Tensor, like: Tensor) -> None:
    """Refuse all but a non-empty batch (N, D) of finite rows of the D, dtype and device of `like` (..., D)."""
    check_dense("x", x)
    if x.ndim != 2 or x.shape[1] != like.shape[-1]:
        raise ShapeMismatch(
            f"x: shape {tuple(x.shape)}, but (N, {like.shape[-1]}) is needed; flatten each input to a row"
        )
    if x.dtype != like.dtype or x.device != like.device:
        raise ShapeMismatch(
            f"x: {x.dtype} on {x.device}, but the slopes are {like.dtype} on {like.device}; convert one with .to(...)"
        )
    if x.shape[0] == 0:
        raise BadInput("x: the batch is empty; give at least one row")
    check_finite("x", x)


def check_spline(slopes: Tensor, offsets: Tensor, present: Tensor | None) -> None:
    """Refuse slopes (K, R, D), offsets (K, R) and pieces present (K, R) that do not make a spline."""
    check_dense("slopes", slopes)
    check_dense("offsets", offsets)
    if slopes.ndim != 3 or offsets.shape != slopes.shape[:2]:
        raise ShapeMismatch(
            f"slopes, offsets: shapes {tuple(slopes.shape)} and {tuple(offsets.shape)}; give (K, R, D) and (K, R)"
        )
    if slopes.dtype != offsets.dtype or slopes.device != offsets.device:
        raise ShapeMismatch("slopes, offsets: they differ in dtype or device; convert one with .to(...)")
    if not slopes.is_floating_point() or slopes.numel() == 0:
        raise BadInput("slopes: empty, or not floating point; give at least one unit, piece and input feature")
    check_finite("slopes", slopes)
    check_finite("offsets", offsets)
    if present is None:
        return
    if present.shape != offsets.shape or present.dtype != torch.bool or present.device != offsets.device:
        raise ShapeMismatch(
            f"present: another dtype, shape or device; give bool {tuple(offsets.shape)} on {offsets.device}"
        )
    if not bool(present.any(dim=1).all()):
        raise BadInput("present: a unit is left without any piece; give every unit at least one")
