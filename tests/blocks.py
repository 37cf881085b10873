"""Slopes (or cotangents) of a map, one block per floating-point input."""

from __future__ import annotations

from torch import Tensor


def blocks(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Always a tuple, also where there is one input."""
    return found if isinstance(found, tuple) else (found,)


def only(found: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The block of the single input."""
    (block,) = blocks(found)
    return block
