"""A name for a frozen graph that changes with everything that its codes depend on."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from inspect import unwrap
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import Graph, Operator


def fingerprint(graph: Graph) -> str:
    """The SHA-256 of a graph, in hexadecimal digits."""
    # Step by step the numbers of its inputs and outputs, the name, kind, pieces and units of its records, and all
    # fields of its operator: parameters by dtype, shape and bytes, traced operators by name. Source lines and devices
    # are left out: they change nothing.
    digest = hashlib.sha256()
    values = [(number, value.units, str(value.dtype)) for number, value in sorted(graph.values.items())]
    for piece in _pieces(("values", values, graph.inputs, graph.outputs)):
        digest.update(piece)
    for step in graph.steps:
        records = [(record.name, record.kind, record.pieces, record.units) for record in step.records]
        for piece in _pieces((step.inputs, step.outputs, step.active, records, step.operator)):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(item: Any) -> Iterator[bytes]:
    """The bytes of one item; each kind begins with a mark and states its length, so that no two items run together."""
    if isinstance(item, Tensor):
        yield f"tensor {item.dtype} {tuple(item.shape)};".encode()
        flat = item.detach().cpu().reshape(-1)
        # A single number counts as contiguous whatever its stride is, but has none of its own bytes then.
        yield flat.new_empty(flat.shape).copy_(flat).view(torch.uint8).numpy().tobytes()
    elif isinstance(item, tuple | list):
        yield f"list {len(item)};".encode()
        for entry in item:
            yield from _pieces(entry)
    elif isinstance(item, Mapping):
        yield from _pieces([list(pair) for pair in item.items()])
    elif isinstance(item, Enum):
        yield f"{type(item).__qualname__}.{item.name};".encode()
    elif isinstance(item, FunctionType):
        yield f"function {item.__module__}.{item.__qualname__};".encode()
        yield from _pieces([cell.cell_contents for cell in unwrap(item).__closure__ or ()])
    elif isinstance(item, partial):
        yield from _pieces(["partial", item.func, item.args, item.keywords])
    elif isinstance(item, Operator) or (is_dataclass(item) and not isinstance(item, type)):
        yield f"{type(item).__module__}.{type(item).__qualname__};".encode()
        yield from _pieces(vars(item))
    elif not isinstance(item, torch.device):
        # Numbers, strings, dtypes, None and traced operators (aten.add.Tensor) say all of themselves. What is known by
        # its address only counts by its type.
        text = "" if " at 0x" in repr(item) else repr(item)
        yield f"{type(item).__qualname__} {len(text)} {text};".encode()
