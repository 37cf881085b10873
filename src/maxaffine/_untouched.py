"""A module that is the same after it was run: a forward pass may count, keep or append."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from types import CellType, FunctionType
from typing import Any

from torch import nn

EMPTY = object()  # what a cell holds that nothing was put into


@contextlib.contextmanager
def keep_attributes(model: nn.Module) -> Iterator[None]:
    """Put every attribute of a module, of its parts and of their classes back after the block."""
    # What a forward pass may leave anywhere in reach: in attributes of modules, in containers among them, in attributes
    # of the classes (counters, caches), and in what the methods of these close over.
    modules = list(model.modules())
    kinds = {kind: None for module in modules for kind in type(module).__mro__ if not _is_stateless(kind)}
    saved = [(vars(module), _values(vars(module))) for module in modules]
    classes = [_class(kind) for kind in kinds]
    try:
        yield
    finally:
        for attributes, before in saved:
            _put_back(attributes, before)
        for restore in classes:
            restore()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; after it every part has the mode, and what it keeps of a pass, as before."""
    modes = [(module, module.training) for module in model.modules()]
    with keep_attributes(model):
        try:
            for module, _ in modes:  # an exported module has no eval()
                module.training = False
            yield
        finally:
            # A scripted module keeps its mode elsewhere than among its attributes.
            for module, training in modes:
                module.training = training


def _is_stateless(kind: type) -> bool:
    """Whether a class keeps no state of its users: Python's and PyTorch's do not."""
    return kind.__module__.partition(".")[0] in ("torch", "builtins", "typing", "abc")


def _values(attributes: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each value by its name, with a copy of what it contains."""
    return {name: (value, _contents(value)) for name, value in attributes.items()}


def _put_back(attributes: dict[str, Any], before: dict[str, tuple[Any, Any]]) -> None:
    """Make attributes what they were; never empty for a moment: another thread may be running the module."""
    for name in attributes.keys() - before.keys():
        del attributes[name]
    attributes.update((name, _refill(value, contents)) for name, (value, contents) in before.items())


def _class(kind: type) -> Callable[[], None]:
    """What puts a class back as it is now."""
    # Names with two underscores are Python's own, and some of them cannot be set.
    before = _values({name: value for name, value in vars(kind).items() if name[:2] != "__"})
    functions = [value for value in vars(kind).values() if isinstance(value, FunctionType)]
    cells = [(cell, _inside(cell)) for function in functions for cell in function.__closure__ or ()]
    closed = [(cell, value, _contents(value)) for cell, value in cells]

    def restore() -> None:
        # Only what differs is set: setting an attribute of a class makes Python drop its caches of methods.
        for name in [name for name in vars(kind) if name[:2] != "__" and name not in before]:
            delattr(kind, name)
        for name, (value, contents) in before.items():
            if vars(kind).get(name) is not value:
                setattr(kind, name, value)
            _refill(value, contents)
        for cell, value, contents in closed:
            if value is EMPTY and _inside(cell) is not EMPTY:
                del cell.cell_contents
            elif _inside(cell) is not value:
                cell.cell_contents = value
            _refill(value, contents)

    return restore


def _inside(cell: CellType) -> Any:
    """What a function closes over; EMPTY where that is not set yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return EMPTY


def _contents(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list | set | deque) else None


def _refill(value: Any, contents: Any) -> Any:
    """A container with its earlier contents, the container itself the same object."""
    # Compared by identity: what is equal may be another object, and comparing arrays has no single answer.
    if contents is None or _parts(value) == _parts(contents):
        return value
    value.clear()
    value.extend(contents) if isinstance(value, list | deque) else value.update(contents)
    return value


def _parts(container: Any) -> list[int]:
    """The identities of what a container holds, in order."""
    values = container.values() if isinstance(container, dict) else ()
    return [id(item) for item in (*container, *values)]
