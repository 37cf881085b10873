"""An exported program with its operators taken apart: in one trace, where nobody else sees what is written in place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses import FakeTensor
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.fx.traceback import preserve_node_meta
from torch.utils._pytree import tree_leaves

from maxaffine.capture.decompositions import decompositions

aten = torch.ops.aten

# What PyTorch raises where it cannot follow a graph; another way is tried then, and tells what is at fault.
FAILED = (RuntimeError, TypeError, ValueError, LookupError, AssertionError)


def taken_apart(program: ExportedProgram) -> tuple[ExportedProgram, GraphModule]:
    """Take the operators of an exported program apart.

    PyTorch's own way traces twice more, to make functional what is written in place, and registers some hundred
    operators for that long. A graph in which nothing is written, or only what nobody else sees, needs one trace.

    Args:
        program: What torch.export made of a module.

    Returns:
        The program whose signature and constants hold, and the functional graph of simple operators.
    """
    table = decompositions()
    with torch.inference_mode():  # for autograd PyTorch takes hardshrink and softshrink apart
        module = _in_one_trace(program, table)
        if module is None:
            program = program.run_decompositions(table)
            module = program.graph_module
    return program, module


def _in_one_trace(program: ExportedProgram, table: dict[Any, Callable]) -> GraphModule | None:
    """The graph traced once more, its placeholders named as before; None where that does not take all apart."""
    old = program.graph.find_nodes(op="placeholder")
    values = [node.meta["val"] for node in old]
    fake = next((value for value in values if isinstance(value, FakeTensor)), None)
    # What autocast casts, and what vmap makes of a graph, shows behind dispatch only.
    if fake is None or torch.is_autocast_enabled(fake.device.type) or any(map(_transforms, program.graph.nodes)):
        return None
    # What it has written by then means the same where it finds something that it cannot.
    if not _made_functional(program.graph, ()):
        return None
    program.graph_module.recompile()
    # Before dispatch, what the table names is taken apart where it is met, and nothing else is.
    retraced = make_fx(Interpreter(program.graph_module).run, table, pre_dispatch=True)
    try:
        with fake.fake_mode, preserve_node_meta():
            module = retraced(*values)
    except FAILED:
        return None
    graph = module.graph
    # Before dispatch no table is asked about a number of entries.
    if graph.find_nodes(op="call_function", target=aten.sym_numel.default) or not _made_functional(graph, table):
        return None
    _name_placeholders(graph, [node.name for node in old])
    graph.eliminate_dead_code()
    module.recompile()
    return module


def _name_placeholders(graph: Graph, names: list[str]) -> None:
    """Give the placeholders these names, and others to the nodes that had them."""
    wanted, taken = set(names), {*names, *(node.name for node in graph.nodes)}
    for node in graph.nodes:
        if node.name in wanted:
            number = next(number for number in count(1) if f"{node.name}_{number}" not in taken)
            node.name = f"{node.name}_{number}"
            taken.add(node.name)
    for node, name in zip(graph.find_nodes(op="placeholder"), names, strict=True):
        node.name = node.target = name


def _made_functional(graph: Graph, table: Container[Any]) -> bool:
    """Replace operators that write into memory which nobody else sees, by none of the table; whether none is left."""
    for node in graph.find_nodes(op="call_function", target=aten.detach_.default):
        node.target = aten.detach.default  # it writes no numbers
    plain = {node: _plain(node) for node in graph.nodes if _writes(node)}
    if not plain:
        return True
    if any(operator is None or operator in table for operator in plain.values()):
        return False
    sharing: dict[Any, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for place in _places(node):
            sharing[place].append(node)
    if None in sharing:
        return False
    place_of = {node: place for place, node in enumerate(graph.nodes)}
    for node, operator in plain.items():
        # Nothing else may share the memory, in the graph or outside. Then relu_(x) is relu(x), read in place of x from
        # there on.
        written = node.args[0]
        first, *others = sharing[_places(node).pop()]
        if written not in (first, *others) or not _fresh(first) or not plain.keys() >= set(others):
            return False
        node.target = operator
        for user in [user for user in written.users if place_of[user] > place_of[node]]:
            user.replace_input_with(written, node)
    return True


def _transforms(node: Node) -> bool:
    """Whether a node enters or leaves vmap or another transform of functions."""
    return node.op == "call_function" and (getattr(node.target, "__module__", "") or "").startswith("torch._functorch")


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
