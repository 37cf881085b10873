"""What has changed in a module: the attributes in which it differs from a copy made earlier."""

from __future__ import annotations

import functools
import pickle
import types
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._network.copying import DEEP, FAILURES, attributes, plain

PARTS = ("_parameters", "_buffers", "_modules")


def changed_attributes(before: nn.Module, after: nn.Module) -> list[str]:
    """The dotted names of attributes in which two copies of a module differ, by the numbers and objects in them."""
    earlier = dict(before.named_modules())
    return [
        ".".join(part for part in (path, name) if part)
        for path, module in after.named_modules()
        if path in earlier
        for name in _differences(_hold(earlier[path]), _hold(module))
    ]


def _hold(module: nn.Module) -> dict[str, Any]:
    """The attributes of one module, its parameters, buffers and parts among them by their own names."""
    own = dict(vars(module))
    for kind in PARTS:
        own.update(own.pop(kind, {}))
    return own


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = dict.fromkeys([*before, *after])
    return [name for name in names if not (name in before and name in after and same(before[name], after[name]))]


def same(a: Any, b: Any) -> bool:
    """Whether two items hold the same, bit by bit; what cannot be compared does, and modules are compared alone."""
    return _same(a, b, set())


def _same(a: Any, b: Any, seen: set[tuple[int, int]]) -> bool:
    """As ``same``; pairs under comparison count as the same."""
    if a is b or (id(a), id(b)) in seen:
        return True
    if type(a) is not type(b):
        return False
    seen.add((id(a), id(b)))
    if isinstance(a, Tensor):
        return _equal(a, b)
    if isinstance(a, nn.Module):
        return True
    if isinstance(a, DEEP):
        try:
            return pickle.dumps(a) == pickle.dumps(b)
        except (*FAILURES, pickle.PickleError):
            return True
    parts, others = _parts(a), _parts(b)
    if parts is not None and others is not None:
        return len(parts) == len(others) and all(_same(x, y, seen) for x, y in zip(parts, others, strict=True))
    try:
        return type(a).__eq__ is object.__eq__ or bool(a == b)
    except FAILURES:
        return True


def _parts(item: Any) -> list[Any] | None:
    """What an item consists of; None for one that is compared as a whole."""
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    if isinstance(item, list | tuple | deque):
        return list(item)
    if isinstance(item, functools.partial):
        return [item.args, item.keywords]
    if isinstance(item, types.FunctionType):
        return [item.__defaults__, *(item.__closure__ or ())]
    if isinstance(item, types.MethodType):
        return [item.__self__]
    if isinstance(item, types.CellType):
        try:
            return [item.cell_contents]
        except ValueError:
            return []
    return [*attributes(item).values()] if plain(item) else None


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN being the same as NaN."""
    if a.shape != b.shape or a.dtype != b.dtype or a.layout != b.layout or a.device != b.device:
        return False
    return a.layout is not torch.strided or bool(((a == b) | ((a != a) & (b != b))).all())
