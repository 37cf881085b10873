"""The names of classes in another order: that of a network's outputs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import BadInput


def read_names(given: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """The names of classes, output by output: a sequence, a file with one on each line, or a text with commas."""
    names = tuple(_split(os.fspath(given)) if isinstance(given, str | os.PathLike) else given)
    if len(names) < 2 or "" in names:
        raise BadInput(
            f"class_names: {str(given)[:80]!r} is neither a file nor names; give at least two names, none of them "
            "empty, in a list, between commas or one on each line of a file"
        )
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadInput(f"class_names: given twice: {twice[:5]}; name each output once")
    return names


def renumbering(data: str, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Where each class of the data goes when classes are numbered in another order, (C,) int64."""
    if len(names) < 2:
        raise BadInput(f"class_names: {data} has no labels to put in another order; leave it out")
    places = {name: place for place, name in enumerate(wanted)}
    if missing := [name for name in names if name not in places]:
        close = difflib.get_close_matches(missing[0], wanted, n=1)
        hint = f" (is {missing[0]!r} the same as {close[0]!r}?)" if close else ""
        raise BadInput(
            f"class_names: {missing[:5]} of {data} are not among the {len(wanted)} names{hint}; use the"
            f" data's own, {list(names)[:5]}{' ...' if len(names) > 5 else ''}, in the order of the network's outputs"
        )
    return torch.tensor([places[name] for name in names])


def _split(text: str) -> list[str]:
    try:
        lines = Path(text).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, RuntimeError):
        # No file of this name, or not a file's name at all.
        return [name.strip() for name in text.split(",")]
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]
