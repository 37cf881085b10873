"""An exported program with its composite operators taken apart: in one trace, where nothing is written in place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses import FakeTensor
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta
from torch.utils._pytree import tree_leaves

from maxaffine.capture.decompositions import decompositions

aten = torch.ops.aten


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
        module = _in_one_trace(program, table) if _made_functional(program.graph) else None
        if module is None:
            program = program.run_decompositions(table)
            module = program.graph_module
    return program, module


def _in_one_trace(program: ExportedProgram, table: dict[Any, Callable]) -> GraphModule | None:
    """The graph traced once more, its placeholders named as before; None where that does not take all apart."""
    old = program.graph.find_nodes(op="placeholder")
    values = [node.meta["val"] for node in old]
    fake = [value for value in values if isinstance(value, FakeTensor)]
    if any(torch.is_autocast_enabled(value.device.type) for value in fake):
        return None  # what it casts shows behind dispatch only
    program.graph_module.recompile()
    # Before dispatch, what the table names is taken apart where it is met, and nothing else is.
    retraced = make_fx(Interpreter(program.graph_module).run, table, pre_dispatch=True)
    try:
        with fake[0].fake_mode, preserve_node_meta():
            module = retraced(*values)
    except RuntimeError:  # what is at fault is found again, and told, where PyTorch goes its own way
        return None
    graph = module.graph
    # Before dispatch no table is asked about a number of entries.
    if not _made_functional(graph, table) or graph.find_nodes(op="call_function", target=aten.sym_numel.default):
        return None
    for before, after in zip(old, graph.find_nodes(op="placeholder"), strict=True):
        after.name = after.target = before.name
    graph.eliminate_dead_code()
    module.recompile()
    return module


def _made_functional(graph: Graph, composite: Container[Any] = ()) -> bool:
    """Write ``relu_(x)`` as ``relu(x)``, if not composite, and read that from there on; whether nothing is written."""
    for node in graph.find_nodes(op="call_function", target=aten.detach_.default):
        node.target = aten.detach.default  # it writes no numbers
    writing = [node for node in graph.nodes if _writes(node)]
    if not writing:
        return True
    sharing: dict[Any, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        for place in _places(node):
            sharing[place].append(node)
    # Under vmap, say, PyTorch does not tell where a tensor lies.
    if None in sharing or any(_plain(node) is None or _plain(node) in composite for node in writing):
        return False
    place_of = {node: place for place, node in enumerate(graph.nodes)}
    for node in writing:
        # Nothing else may share the memory, in the graph or outside.
        written = node.args[0]
        first, *others = sharing[_places(node).pop()]
        if written not in (first, *others) or not _fresh(first) or not set(others) <= set(writing):
            return False
        node.target = _plain(node)
        for user in [user for user in written.users if place_of[user] > place_of[node]]:
            user.replace_input_with(written, node)
    return True


def _writes(node: Node) -> bool:
    """Whether a node may change a tensor, or calls a graph that may."""
    if node.op == "get_attr" or isinstance(node.target, HigherOrderOperator):
        return True
    # Its schema does not say that it changes the statistics.
    training = node.target is aten.native_batch_norm.default
    return training or isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _fresh(node: Node) -> bool:
    """Whether what a node gives lies in memory of its own, by the schema of its operator."""
    if not isinstance(node.target, OpOverload) or torch.Tag.maybe_aliasing_or_mutating in node.target.tags:
        return False
    return all(argument.alias_info is None for argument in node.target._schema.arguments)


def _plain(node: Node) -> OpOverload | None:
    """The operator that gives what this one writes into its first argument, where there is one."""
    if not isinstance(node.target, OpOverload) or len(_places(node)) != 1:
        return None
    name = node.target._schema.name.removeprefix("aten::")
    values = (item.meta["val"] for item in node.all_input_nodes)
    types = {value.dtype for value in values if isinstance(value, Tensor)}
    packet = getattr(aten, name[:-1], None) if name.endswith("_") and len(types) == 1 else None
    return getattr(packet, node.target._overloadname, None)


def _places(node: Node) -> set[int | None]:
    """Where the tensors lie that a node gives; None for those of which that is not known."""
    values = [value for value in tree_leaves(node.meta.get("val")) if isinstance(value, Tensor)]
    known = [isinstance(value, FakeTensor) and value.layout is torch.strided for value in values]
    return {value.untyped_storage()._cdata if is_known else None for value, is_known in zip(values, known, strict=True)}
