"""How much memory there is, and what to say of a result that is larger."""

from __future__ import annotations

import os

import torch

from maxaffine.errors import BadInput


def memory(device: torch.device) -> int | None:
    """Bytes that the device has in all, where it says so."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if device.type == "cpu" else None
    except (AttributeError, ValueError, OSError):  # not everywhere
        return None


def too_large(shapes: list[tuple[int, ...]], size: int, device: torch.device) -> BadInput:
    """The error that slopes do not fit."""
    named = " and ".join(map(str, shapes))
    return BadInput(
        f"slopes: A of shape {named} takes {size} bytes ({size / 2**30:,.1f} GiB), more than there is on {device}; take"
        " its rows in blocks from rows(), keep some outputs with outputs=, or ask for A v and A^T u alone with mv()"
        " and rmv()"
    )


def is_shortage(error: BaseException) -> bool:
    """Whether an error is one of too little memory, which torch raises under several names."""
    names = ("can't allocate memory", "out of memory", "not enough memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(name in str(error) for name in names)
