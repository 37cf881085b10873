"""A module exported with its operators taken apart: in one trace, where nobody else sees what is written in place."""

import contextlib
import importlib
import threading
from collections import defaultdict
from collections.abc import Callable, Container, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses import FakeTensor
from torch.export import ExportedProgram
from torch.fx import Graph, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from maxaffine._capture.decompositions import decompositions
from maxaffine._untouched import keep_attributes

aten = torch.ops.aten

# What PyTorch raises where it cannot follow a module; another way is tried then, and tells what is at fault.
FAILED = (RuntimeError, TypeError, ValueError, LookupError, AssertionError)


def apart(model: nn.Module, export: Callable[[], ExportedProgram], smooth: bool) -> ExportedProgram:
    """Export a module as a functional graph of simple operators, the smooth ones among them taken apart if asked."""
    table = decompositions(smooth)
    # PyTorch's own way traces twice more, to make functional what is written in place, and registers some hundred
    # operators for that long. A graph in which nothing is written, or only what nobody else sees, needs its first trace
    # alone.
    program = _in_one_trace(model, export, table)
    if program is None:
        program = export()
        with torch.inference_mode():  # for autograd PyTorch takes hardshrink and softshrink apart
            program = program.run_decompositions(table)
    return program


def _in_one_trace(
    model: nn.Module, export: Callable[[], ExportedProgram], table: dict[Any, Callable]
) -> ExportedProgram | None:
    """The program whose operators were taken apart where the tracer met them; None where that does not do."""
    # PyTorch's own, so it may go away.
    if not hasattr(importlib.import_module("torch.export._trace"), "make_fx"):
        return None
    try:
        with keep_attributes(model), _taking_apart(table):
            program = export()
    except FAILED:
        return None
    graph = program.graph
    # What autocast casts, and what vmap makes of a graph, shows after dispatch only; before it no table is asked
    # about a number of entries.
    if any(map(_hides, graph.nodes)) or _casts(graph) or not _make_functional(graph, table):
        return None
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


@contextlib.contextmanager
def _taking_apart(table: dict[Any, Callable]) -> Iterator[None]:
    """What this thread exports is taken apart by the table: torch.export itself has no argument for that."""
    tracer: Any = importlib.import_module("torch.export._trace")
    plain, here = tracer.make_fx, threading.get_ident()

    def make_fx(function: Callable, **options: Any) -> Callable:
        return plain(function, **({"decomposition_table": table} if threading.get_ident() == here else {}) | options)

    with substitute(tracer, make_fx=make_fx):
        yield


@contextlib.contextmanager
def substitute(owner: Any, **attributes: Any) -> Iterator[None]:
    """Other attributes of an object of PyTorch's inside the block."""
    before = {name: getattr(owner, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def _casts(graph: Graph) -> bool:
    """Whether the caller's autocast is on, on the device of the graph's inputs."""
    values = [node.meta.get("val") for node in graph.find_nodes(op="placeholder")]
    return any(torch.is_autocast_enabled(value.device.type) for value in values if isinstance(value, Tensor))


def _make_functional(graph: Graph, table: Container[Any]) -> bool:
    """Replace operators that write into memory which nobody else sees, by none of the table; whether none is left."""
    for node in graph.find_nodes(op="call_function", target=aten.detach_.default):
        node.target = aten.detach.default  # it writes no numbers
    plain = {node: _plain(node) for node in graph.nodes if _writes(node)}
    if not plain:
        return True
    if any(operator is None or operator in table for operator in plain.values()):
        return False
    # Tensors share memory if their storage is one object: views of one another, and what is written in place.
    sharing: dict[Any, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for place in _places(node):
            sharing[place].append(node)
    if None in sharing:
        return False
    place_of = {node: place for place, node in enumerate(graph.nodes)}
    for node, operator in plain.items():
        # Nothing else may share the memory, in the graph (but for what is written in place there too) or outside
        # (whence its first node must have made it). Then relu_(x) is relu(x), read in place of x from there on.
        written = node.args[0]
        first, *others = sharing[_places(node).pop()]
        if written not in (first, *others) or not _fresh(first) or not plain.keys() >= set(others):
            return False
        node.target = operator
        for user in [user for user in written.users if place_of[user] > place_of[node]]:
            user.replace_input_with(written, node)
    return True


def _hides(node: Node) -> bool:
    """Whether a node enters or leaves vmap or another transform of functions, or counts entries."""
    if node.op != "call_function":
        return False
    transforms = (getattr(node.target, "__module__", "") or "").startswith("torch._functorch")
    return transforms or node.target is aten.sym_numel.default


def _writes(node: Node) -> bool:
    """Whether a node may change a tensor, or calls a graph that may."""
    if node.op == "get_attr" or isinstance(node.target, HigherOrderOperator):
        return True
    # Their schemas do not say that they change the statistics.
    training = node.target in (aten.native_batch_norm.default, aten.miopen_batch_norm.default)
    return training or isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _fresh(node: Node) -> bool:
    """Whether what a node gives lies in memory of its own, by the schema of its operator."""
    if not isinstance(node.target, OpOverload) or torch.Tag.maybe_aliasing_or_mutating in node.target.tags:
        return False
    return all(argument.alias_info is None for argument in node.target._schema.arguments)


def _plain(node: Node) -> OpOverload | None:
    """The operator that gives what this one writes into its first argument, where there is one."""
    if not isinstance(node.target, OpOverload) or not node.target._schema.name.endswith("_"):
        return None
    packet = getattr(aten, node.target._schema.name.removeprefix("aten::")[:-1], None)
    plain = getattr(packet, node.target._overloadname, None)
    value = node.meta.get("val")
    if plain is None or plain._schema.is_mutable or not isinstance(value, FakeTensor):
        return None
    # In place the type and the shape stay; gt(x, 0), say, has another type.
    args, kwargs = map_arg((node.args, node.kwargs), lambda other: other.meta["val"])
    try:
        with value.fake_mode:
            found = plain(*args, **kwargs)
    except FAILED:
        return None
    return plain if found.dtype == value.dtype and found.shape == value.shape else None


def _places(node: Node) -> set[int | None]:
    """Where the tensors lie that a node gives; None for those of which that is not known."""
    values = [value for value in tree_leaves(node.meta.get("val")) if isinstance(value, Tensor)]
    known = [isinstance(value, FakeTensor) and value.layout is torch.strided for value in values]
    return {value.untyped_storage()._cdata if is_known else None for value, is_known in zip(values, known, strict=True)}
