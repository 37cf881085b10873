"""Names for operators: the path of the module that called them, so that a user finds them again."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.fx import Node


@dataclass(frozen=True)
class Name:
    """The name of one traced node."""

    text: str  # unique: layer1.0.relu, and layer1.0.relu#2 for its second call
    module_path: str  # dotted path of the calling module, empty for the root
    source: str  # source line of the call, when it is known
    parents: tuple[str, ...]  # paths of all modules that were running, outermost first


def name_nodes(model: nn.Module, nodes: Sequence[Node], inputs: Sequence[str]) -> dict[Node, Name]:
    """Name every node after the module that called it."""
    modules = model.named_modules(remove_duplicate=False)
    leaf = {path for path, module in modules if next(module.children(), None) is None}
    # A leaf module that calls one operator gives it its own path; otherwise the operator's kind follows the path. Only
    # what depends on the input counts, and is numbered: the arithmetic on sizes that a trace adds names nothing.
    dependent = _dependent(nodes, inputs)
    calls = Counter(_stack(node)[0] for node in dependent)
    seen: Counter[str] = Counter()
    names = {}
    for node in nodes:
        key, path, parents = _stack(node)
        kind = kind_of(node)
        alone = path and path in leaf and calls[key] == 1
        text = path if alone else ".".join(part for part in (path, kind) if part)
        if node in dependent:
            seen[text] += 1
            text = text if seen[text] == 1 else f"{text}#{seen[text]}"
        names[node] = Name(text, path, _source(node), parents)
    return names


def find_node(wanted: str, nodes: Sequence[Node], names: dict[Node, Name]) -> Node | None:
    """The node called ``wanted``, or the last one that ran inside the module of that path."""
    named = [node for node in nodes if _counts(node)]
    exact = [node for node in named if names[node].text == wanted]
    inside = [node for node in named if wanted in names[node].parents]
    return next(iter(exact[:1] or inside[-1:]), None)


def _dependent(nodes: Sequence[Node], inputs: Sequence[str]) -> set[Node]:
    """The operators whose value depends on the network's input, not on its size alone."""
    reached = {node for node in nodes if node.name in inputs}
    for node in nodes:
        if node.op == "call_function" and kind_of(node) != "sym_size" and not reached.isdisjoint(node.all_input_nodes):
            reached.add(node)
    return {node for node in reached if _counts(node)}


def _counts(node: Node) -> bool:
    return node.op == "call_function" and kind_of(node) not in ("getitem", "sym_size", "clone", "detach", "alias")


def kind_of(node: Node) -> str:
    """The short name of a node's operator."""
    target = node.target
    schema = getattr(target, "_schema", None)
    text = schema.name.split("::")[1] if schema is not None else getattr(target, "__name__", str(target))
    return text.strip("_").removesuffix("_with_indices")


def _stack(node: Node) -> tuple[str, str, tuple[str, ...]]:
    """Key of the innermost module call, its path, and the paths of all running modules."""
    stack = {key: path for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items() if "empty_nn" not in key}
    if not stack:
        return "", "", ()
    # A module that is called again has @1, @2, ... after its path: another key, but the same module.
    paths = tuple(re.sub(r"@\d+", "", path) for path in stack.values())
    return next(reversed(stack)), paths[-1], paths


def _source(node: Node) -> str:
    """The innermost source line that is not PyTorch's own."""
    # A stack is written outermost first, two lines a frame: where it is, and what stands there.
    lines = (node.meta.get("stack_trace") or "").strip().splitlines()
    found = ""
    for place, line in enumerate(lines):
        match = re.match(r'\s*File "(.+)", line (\d+), in', line)
        if match and "/torch/" not in match[1]:
            code = lines[place + 1].strip() if place + 1 < len(lines) else ""
            found = f"{match[1]}:{match[2]}: {code}"
    return found
