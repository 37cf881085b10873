"""A traced graph, node by node, into a frozen graph of operators: what depends on the input, and how."""

from __future__ import annotations

import operator as python_operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from maxaffine._capture.batch import MIXED, MIXED_CURE, PROBES, grows, pointwise
from maxaffine._capture.call import Call, Ref
from maxaffine._capture.complexes import RETURNED, Complex, check_affine, composed, is_complex, kept, takes_sizes
from maxaffine._capture.export import Traced
from maxaffine._capture.names import Name, kind_of
from maxaffine._capture.registry import Rule, find
from maxaffine._capture.rules.refused import refuse
from maxaffine._graph import BatchAxis, Dependence, Graph, Held, Operator, OperatorRecord, Step, Value, as_tuple
from maxaffine.errors import CaptureError, first_line

aten = torch.ops.aten

SAME = {
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.lift_fresh_copy.default,
    aten.lift_fresh.default,
}
# The same operator under a name that does not depend on memory layout.
SYNONYMS: dict[Any, Any] = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}
IGNORED = {
    aten._assert_tensor_metadata.default,
    aten._assert_scalar.default,
    aten._assert_async.msg,
    aten.sym_constrain_range.default,
    aten.sym_constrain_range_for_size.default,
}
BATCH_SIZE = (
    "its value depends on the number of samples in the batch",
    "do not compute with the batch size; use it in shapes only",
)


@dataclass
class Freezer:
    """Reads a traced graph in running order, with three sample inputs at hand to prove samples stay apart.

    Attributes:
        traced: The traced module.
        names: The name of every node.
        batch_axes: The batch axis of every user input.
    """

    traced: Traced
    names: dict[Node, Name]
    batch_axes: Sequence[int]
    values: dict[int, Value] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    known: dict[Node, Any] = field(default_factory=dict)

    def graph(self, probe: Sequence[Tensor], targets: Sequence[Any]) -> Graph:
        """Freeze what the target nodes need.

        Args:
            probe: Three samples of every user input.
            targets: The nodes (or constants) to compute.

        Returns:
            The frozen graph.

        Raises:
            NotPiecewiseAffine: At the first operator that has no exact form.
        """
        inputs = self._place_inputs(probe)
        wanted = _ancestors([target for target in targets if isinstance(target, Node)])
        kept = {target for target in targets if isinstance(target, Node)}
        last_use = {argument: node for node in self.traced.nodes for argument in node.all_input_nodes}
        with torch.no_grad():
            for node in self.traced.nodes:
                if node in wanted and node.op not in ("placeholder", "output"):
                    self.known[node] = self._node(node)
                    for argument in node.all_input_nodes:
                        if last_use[argument] is node and argument not in kept:
                            del self.known[argument]
        outputs = tuple(self._number(self.known[t] if isinstance(t, Node) else t) for t in targets)
        return Graph(self.values, tuple(self.steps), inputs, outputs)

    def _place_inputs(self, probe: Sequence[Tensor]) -> tuple[int, ...]:
        placeholders = {node.name: node for node in self.traced.nodes if node.op == "placeholder"}
        # What is neither a constant nor an input is an object of PyTorch's own, such as a random generator.
        self.known.update({node: node.meta.get("val") for node in placeholders.values()})
        for name, tensor in self.traced.constants.items():
            self.known[placeholders[name]] = tensor
        numbers = []
        for name, tensor, axis in zip(self.traced.inputs, probe, self.batch_axes, strict=True):
            dependence = Dependence.AFFINE if tensor.is_floating_point() else Dependence.REGION
            ref = self._new(dependence, tensor, BatchAxis(axis))
            numbers.append(ref.number)
            self.known[placeholders[name]] = ref
        return tuple(numbers)

    def _new(self, dependence: Dependence, sample: Any, batch: BatchAxis | None, traced: Any = None) -> Ref:
        number = len(self.values)
        if isinstance(sample, Tensor):
            units = batch.units(sample.shape) if batch else tuple(sample.shape)
            self.values[number] = Value(dependence, units, batch, sample.dtype)
        else:
            self.values[number] = Value(dependence)
        return Ref(number, self.values[number], sample, traced)

    def _argument(self, item: Any) -> Any:
        if isinstance(item, Node):
            return self.known[item]
        if isinstance(item, list | tuple):
            return [self._argument(inner) for inner in item]
        return item

    def _node(self, node: Node) -> Any:
        name = self.names[node]
        if node.op == "get_attr":  # a function of the user's, which the operator that runs it is handed
            return getattr(self.traced.module, str(node.target))
        args = [self._argument(item) for item in node.args]
        kwargs = {key: self._argument(item) for key, item in node.kwargs.items()}
        if node.target is python_operator.getitem and isinstance(args[0], list | tuple):
            return args[0][args[1]]
        if node.target in IGNORED:
            return None
        if node.target in SAME or _whole(node.target, args):
            return args[0]
        call = Call.of(SYNONYMS.get(node.target, node.target), tuple(args), kwargs, name.module_path, name.source)
        if _tagged(call, torch.Tag.nondeterministic_seeded) and not (call.refs and find(call.target)):
            refuse(call, name=_placing(node))
        if not call.refs:
            return self._constant(call)
        return self._step(call, name, node)

    def _constant(self, call: Call) -> Any:
        if not isinstance(call.target, torch._ops.OpOverload):
            return call.target(*(call[name] for name in call.positional))
        operator = call.affine()
        return operator()

    def _step(self, call: Call, name: Name, node: Node) -> Any:
        complex_values = is_complex(call, node.meta["val"])
        if not complex_values and (
            call.target in (aten.sym_size.int, aten.full_like.default) or all(ref.size for ref in call.refs)
        ):
            return self._sized(call, node)
        rule = find(call.target)
        if complex_values:
            check_affine(call)
            if any(ref.size for ref in call.refs) and not takes_sizes(call):
                call.refuse(*BATCH_SIZE)
            if any(item.is_complex() for item in as_tuple(node.meta["val"]) if isinstance(item, Tensor)):
                return kept(call, _on_probe(call, call.affine()))
            call, rule = composed(call)
        rule = rule or _entrywise(call)
        if any(ref.size for ref in call.refs) and not rule.sizes:
            call.refuse(*BATCH_SIZE)
        operator = rule.build(call) if call.active else _held(call)
        value = _on_probe(call, operator)
        outputs = as_tuple(value)
        batch = rule.batch(call, [item for item in outputs if isinstance(item, Tensor)])
        if not grows(as_tuple(node.meta["val"])[0].shape, batch):
            call.refuse(MIXED, MIXED_CURE)
        refs = [self._new(_dependence(call, operator, item), item, batch) for item in outputs]
        records = () if not call.active else (_record(operator, name, refs[0].value.units),)
        numbers = tuple(ref.number for ref in refs)
        inputs = tuple(ref.number for ref in call.refs)
        self.steps.append(Step(operator, inputs, numbers, records, operator.traits.active))
        return refs if isinstance(value, tuple | list) else refs[0]

    def _sized(self, call: Call, node: Node) -> Any:
        """A size, or a tensor of one constant whose shape follows the batch."""
        operator = _held(call)
        sample = operator(*(ref.sample for ref in call.refs))
        batch = _uniform(call, sample) if isinstance(sample, Tensor) else None
        ref = self._new(Dependence.HELD, sample, batch, node.meta["val"])
        self.steps.append(Step(operator, tuple(item.number for item in call.refs), (ref.number,), ()))
        return ref

    def _number(self, item: Any) -> int:
        """The graph's number of an output; a constant becomes a step of its own."""
        if isinstance(item, Complex):
            raise CaptureError(RETURNED)
        if isinstance(item, Ref):
            return item.number
        if not isinstance(item, Tensor):
            raise CaptureError(f"model: it returns {type(item).__name__} {item!r}; return tensors only")
        ref = self._new(Dependence.HELD, item, None)
        held = Held("constant", _itself, (item,), {}, ())
        self.steps.append(Step(held, (), (ref.number,), ()))
        return ref.number


def _itself(item: Any) -> Any:
    return item


def _on_probe(call: Call, operator: Operator) -> Any:
    """The operator's value on the probe batch."""
    try:
        return operator(*(ref.sample for ref in call.refs))
    except (RuntimeError, IndexError, ValueError) as error:
        call.refuse(f"it fails on a batch of {PROBES} samples ({first_line(error)})", MIXED_CURE)


def _placing(node: Node) -> str:
    """The pooling that random numbers are drawn for, if it is one."""
    return next((kind for kind in map(kind_of, node.users) if kind.startswith("fractional_max_pool")), "")


def _tagged(call: Call, tag: torch.Tag) -> bool:
    return isinstance(call.target, torch._ops.OpOverload) and tag in call.target.tags


def _entrywise(call: Call) -> Rule:
    """Any function of single entries will do where no entry varies with the input inside a region."""
    if call.active or not _tagged(call, torch.Tag.pointwise):
        refuse(call)
    return Rule(_held, pointwise)


def _held(call: Call) -> Held:
    operator = call.affine()
    return Held(operator.kind, operator.target, operator.args, operator.kwargs, ())


def _uniform(call: Call, sample: Tensor) -> BatchAxis | None:
    """The batch axis of a constant whose shape follows the batch, if it is the same for every sample."""
    if call.target is aten.full_like.default and not isinstance(call["fill_value"], Ref):
        return call["self"].value.batch
    constant = call.arguments.get("fill_value", call.arguments.get("self"))
    sizes = call.arguments.get("size", call.arguments.get("repeats"))
    if call.target not in (aten.full.default, aten.expand.default, aten.repeat.default) or isinstance(constant, Ref):
        refuse(call, BATCH_SIZE)
    axes = [axis for axis, size in enumerate(sizes or ()) if isinstance(size, Ref)]
    if len(axes) != 1 or (sample.narrow(axes[0], 0, 1) != sample).any():
        call.refuse(*BATCH_SIZE)
    return BatchAxis(axes[0], 1, sample.shape[axes[0]] // PROBES)


def _whole(target: Any, args: list) -> bool:
    """Whether this is a slice that keeps everything."""
    return target is aten.slice.Tensor and len(args) == 4 and args[2] in (None, 0) and args[3] == sys.maxsize


def _dependence(call: Call, operator: Operator, output: Tensor) -> Dependence:
    if operator.traits.active and output.is_floating_point():
        return Dependence.AFFINE
    regional = any(ref.value.dependence is Dependence.REGION for ref in call.refs)
    return Dependence.REGION if call.active or regional else Dependence.HELD


def _record(operator: Operator, name: Name, units: tuple[int, ...]) -> OperatorRecord:
    traits = operator.traits
    return OperatorRecord(
        name=name.text,
        kind=traits.kind,
        pieces=traits.pieces,
        units=units,
        convex=traits.convex,
        continuous=traits.continuous,
        module_path=name.module_path,
        source=name.source,
    )


def _ancestors(nodes: Sequence[Node]) -> set[Node]:
    found: set[Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending.extend(node.all_input_nodes)
    return found
