"""torch.export looks up every composite operator by name for each namespace and capture; here once per new operator."""

from __future__ import annotations

import torch
from torch._export import utils

NAME = "_materialize_cpp_cia_ops"


def look_up_operators_once() -> None:
    """Skip the look-up, which only fills `torch.ops`, as long as the list of operators is the one of the last time."""
    look_up = getattr(utils, NAME, None)
    if look_up is None:  # another release of PyTorch
        return
    known: list[str] = []

    def look_up_new() -> None:
        names = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if names != known:
            look_up()
            known[:] = names

    setattr(utils, NAME, look_up_new)
