"""The caller's global modes, kept out of what is computed here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Compute as captured: without autocast, which rounds, and without inference mode, in which derivatives are lost.

    Args:
        device: Where it is computed.

    Yields:
        Nothing; gradients are off.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def recordable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where it was made in inference mode and cannot take part in a derivative."""
    return tensor.clone() if tensor.is_inference() else tensor
