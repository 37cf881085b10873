"""A copy of a user's module, to run and to trace while the module itself stays free, and what differs between two."""

import copy
import functools
import pickle
import random
import types
import weakref
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Levels below a module's attributes: an object, and an object in it. A trainer leads to loaders and whole data sets.
DEPTH = 2
DEEP = (np.ndarray, bytearray, random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
# What a user's own class may raise, in a method of Python's protocols or in forward.
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
ATOMS = {type(None), bool, int, float, str, weakref.ProxyType, weakref.CallableProxyType}
PARTS = ("_parameters", "_buffers", "_modules")
FAST = {dict, list, set, deque, OrderedDict}


def copy_module(model: nn.Module, shared: type | tuple[()] = nn.Parameter) -> nn.Module:
    """A module with the same numbers and a state of its own; tensors of the `shared` type are not copied."""
    # Modules, containers, objects, and functions with what they close over are copied, and refer to each other as
    # before; what cannot be copied (a lock, a file, an object of PyTorch's own) is shared. No method of the module is
    # called, so that nothing in it can refuse, and tensors that are results of a computation, which deepcopy refuses,
    # are copied without their history. Tensors made in inference mode become ordinary ones.
    with torch.inference_mode(False), torch.no_grad():
        return _Copier(shared)(model, 0)


class _Copier:
    """Copies each object once: ``memo`` maps its identity to the copy, and ``alive`` keeps identities from reuse."""

    def __init__(self, shared: type | tuple[()]) -> None:
        self.shared = shared
        self.memo: dict[int, Any] = {}
        self.alive: list[Any] = []

    def __call__(self, item: Any, depth: int) -> Any:
        kind = type(item)
        if kind in ATOMS:
            return item
        if id(item) in self.memo:
            return self.memo[id(item)]
        if isinstance(item, Tensor):
            return self._note(item, self._tensor(item))
        if isinstance(item, nn.Module):
            return self._attributes(item, 0)
        if isinstance(item, dict | list | set | deque):
            return self._container(item, depth)
        if isinstance(item, tuple):
            return self._tuple(item, depth)
        if kind is types.FunctionType:
            return self._function(item, depth) if item.__closure__ or item.__defaults__ else item
        if kind is types.CellType:
            return self._cell(item, depth)
        if kind is types.MethodType:
            return self._note(item, types.MethodType(self(item.__func__, depth), self(item.__self__, depth)))
        if kind is types.BuiltinMethodType and isinstance(item.__self__, dict | list | set | deque):
            return self._note(item, getattr(self(item.__self__, depth), item.__name__))
        if kind is functools.partial:
            function, args, named = (self(part, depth) for part in (item.func, item.args, dict(item.keywords)))
            return self._note(item, functools.partial(function, *args, **named))
        if isinstance(item, DEEP):
            return self._note(item, copy.deepcopy(item))
        return self._attributes(item, depth + 1) if depth < DEPTH and plain(item) else item

    def _note(self, item: Any, other: Any) -> Any:
        self.memo[id(item)] = other
        self.alive.append(item)
        return other

    def _tensor(self, item: Tensor) -> Tensor:
        if isinstance(item, self.shared) and not item.is_inference():
            return item
        fresh = item.detach().clone()
        if isinstance(item, nn.Parameter):
            fresh = nn.Parameter(fresh, requires_grad=item.requires_grad)
        elif item.is_leaf and item.requires_grad:
            fresh.requires_grad_()
        for name, value in vars(item).items():
            setattr(fresh, name, value)
        return fresh

    def _attributes(self, item: Any, depth: int) -> Any:
        # Noted before its parts are copied: they may refer back to it.
        other = self._note(item, object.__new__(type(item)))
        for name, value in attributes(item).items():
            try:
                value = self(value, depth)
            except FAILURES:  # then it is shared
                self.memo.pop(id(value), None)
            if name in getattr(item, "__dict__", ()):
                other.__dict__[name] = value  # past any __setattr__
            else:
                object.__setattr__(other, name, value)
        return other

    def _container(self, item: Any, depth: int) -> Any:
        # A copy that is emptied keeps what a subclass adds, such as the factory of a defaultdict.
        other = self._note(item, item.copy() if type(item) in FAST else copy.copy(item))
        contents = list(item.items() if isinstance(item, dict) else item)
        other.clear()
        if isinstance(item, dict):
            for key, value in contents:
                other[self(key, depth)] = self(value, depth)
        else:
            add = other.add if isinstance(item, set) else other.append
            for value in contents:
                add(self(value, depth))
        return other

    def _tuple(self, item: tuple, depth: int) -> tuple:
        parts = [self(part, depth) for part in item]
        if all(part is old for part, old in zip(parts, item, strict=True)):
            return item
        make = getattr(type(item), "_make", type(item))  # a named tuple takes its parts one by one
        return self._note(item, make(parts))

    def _function(self, item: types.FunctionType, depth: int) -> types.FunctionType:
        # Cells first, empty: a function may close over itself, and is known by then.
        cells = tuple(self(cell, depth) for cell in item.__closure__ or ())
        known = self.memo.get(id(item))
        if known is not None:
            return known
        other = types.FunctionType(item.__code__, item.__globals__, item.__name__, None, cells)
        self._note(item, other)
        other.__defaults__ = item.__defaults__ and self(item.__defaults__, depth)
        for name in ("__kwdefaults__", "__annotations__", "__qualname__", "__doc__", "__module__"):
            setattr(other, name, getattr(item, name))
        other.__dict__.update({name: self(value, depth) for name, value in vars(item).items()})
        return other

    def _cell(self, item: types.CellType, depth: int) -> types.CellType:
        other = self._note(item, types.CellType())
        try:
            inside = item.cell_contents
        except ValueError:  # it is empty
            return other
        other.cell_contents = self(inside, depth)
        return other


def attributes(item: Any) -> dict[str, Any]:
    """What an object holds, in its dictionary and in slots."""
    slots = [name for kind in type(item).__mro__ for name in _names(vars(kind).get("__slots__", ()))]
    held = {name: getattr(item, name) for name in slots if name[:2] != "__" and hasattr(item, name)}
    return {**held, **getattr(item, "__dict__", {})}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def plain(item: Any) -> bool:
    """Whether an object is no more than its attributes (a bare one is known by its identity), and none of PyTorch's."""
    kind = type(item)
    return (
        not isinstance(item, type | types.ModuleType)
        and kind.__new__ is object.__new__
        and kind.__reduce__ is object.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__module__.partition(".")[0] != "torch"
        and bool(attributes(item))
    )


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
