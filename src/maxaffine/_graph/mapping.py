"""Anything an operator holds, changed in its nested parts."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from maxaffine._graph.contract import Operator

KEPT = object()  # what a function of leaves answers of an item whose parts are to be looked into


def mapped(item: Any, leaf: Callable[[Any], Any]) -> Any:
    """An item in whose nested parts those of which ``leaf`` does not answer ``KEPT`` are what it answers."""
    found = leaf(item)
    if found is not KEPT:
        return found
    if isinstance(item, list | tuple):
        return type(item)(mapped(entry, leaf) for entry in item)
    if isinstance(item, dict):
        return {key: mapped(entry, leaf) for key, entry in item.items()}
    if is_dataclass(item) and not isinstance(item, type):
        parts = {field.name: mapped(getattr(item, field.name), leaf) for field in fields(item) if field.init}
        # What has not changed stays itself.
        same = all(part is getattr(item, name) for name, part in parts.items())
        return item if same else replace(item, **parts)
    if isinstance(item, Operator):
        other = copy(item)
        vars(other).update(mapped(vars(item), leaf))
        return other
    return item


def tensors_in(item: Any) -> Iterator[Tensor]:
    """Every tensor in an item."""
    found: list[Tensor] = []

    def note(part: Any) -> Any:
        if isinstance(part, Tensor):
            found.append(part)
            return part
        return KEPT

    mapped(item, note)
    return iter(found)
