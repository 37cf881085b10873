"""PyTorch prepares the same tables whenever it takes a program apart its own way; here once, as long as they stay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._export import utils
from torch._subclasses import fake_impls
from torch.export import exported_program


def prepare_once() -> None:
    """Keep what PyTorch looks up or registers for a capture; another release of PyTorch, with other names, is left."""
    for module, name in (
        (utils, "_materialize_cpp_cia_ops"),
        (exported_program, "_collect_all_valid_cia_ops"),
    ):
        if hasattr(module, name):
            setattr(module, name, _while_operators_stay(getattr(module, name)))
    name = "_override_composite_implicit_decomp"
    if hasattr(exported_program, name):
        setattr(exported_program, name, _Overrides(getattr(exported_program, name)))


def _while_operators_stay(function: Callable[[], Any]) -> Callable[[], Any]:
    """The result of the last call, as long as the list of composite operators is the one of that call."""
    known: list[Any] = [None, None]

    def kept() -> Any:
        names = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if names != known[0]:
            known[:] = names, function()
        return known[1]

    return kept


class _Overrides:
    """Registers how composite operators are taken apart: once as PyTorch does, later by putting back what it made."""

    def __init__(self, override: Callable[[dict[Any, Callable]], Any]) -> None:
        self.override = override
        self.last: dict[Any, tuple] = {}

    @contextlib.contextmanager
    def __call__(self, decompositions: dict[Any, Callable]) -> Iterator[None]:
        fake = fake_impls.op_implementations_dict
        before = {key: (value, dict(key.py_kernels), fake.get(key)) for key, value in decompositions.items()}
        if before != {key: saved[:3] for key, saved in self.last.items()}:
            with self.override(decompositions):
                self.last = {key: (*saved, dict(key.py_kernels), fake[key]) for key, saved in before.items()}
                yield
            return
        for key, (_, _, _, kernels, implementation) in self.last.items():
            key.py_kernels.update(kernels)
            key._dispatch_cache.clear()
            fake[key] = implementation
        try:
            yield
        finally:
            for key, (_, kernels, *_) in self.last.items():
                key.py_kernels.clear()
                key.py_kernels.update(kernels)
                key._dispatch_cache.clear()
                fake.pop(key)  # PyTorch too takes out what was there before
