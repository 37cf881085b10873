"""A traced graph, node by node, into a frozen graph of operators: what depends on the input, and how."""

import operator as python_operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from maxaffine._capture import complexes
from maxaffine._capture.batch import MANY, MIXED, MIXED_CURE, MOST_SAMPLES, PROBES, grows, pointwise, prime, run_batch
from maxaffine._capture.call import Call, Ref
from maxaffine._capture.decompositions import OPENED
from maxaffine._capture.export import Traced
from maxaffine._capture.gates import ATTENTION, LED, PRODUCTS, RESHAPED, Gates, gating, origin_of
from maxaffine._capture.names import Name, kind_of
from maxaffine._capture.registry import Rule, SmoothRule, find, find_smooth, overloads
from maxaffine._capture.rules.refused import refuse
from maxaffine._capture.rules.smooth import UNITS
from maxaffine._graph import (
    TANGENT,
    BatchAxis,
    Dependence,
    Graph,
    Held,
    Operator,
    OperatorRecord,
    Step,
    Tangent,
    Value,
    as_tuple,
)
from maxaffine._network import Recipe
from maxaffine.errors import CaptureError, NotPiecewiseAffine

aten = torch.ops.aten

SAME = {*overloads("clone detach alias contiguous lift_fresh_copy lift_fresh")}
MULTIPLYING = {*PRODUCTS, *LED}
# The same operator under a name that does not depend on memory layout.
SYNONYMS: dict[Any, Any] = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}
IGNORED = {
    *overloads("_assert_tensor_metadata _assert_scalar _assert_async.msg"),
    *overloads("sym_constrain_range sym_constrain_range_for_size"),
}
# Constants that count over the batch: where gates are held, they may be the start of a mask.
COUNTING = {*overloads("arange arange.start arange.start_step")}
BATCH_SIZE = (
    "its value depends on the number of samples in the batch",
    "do not compute with the batch size; use it in shapes only",
)


@dataclass
class Freezer:
    """Reads a traced graph in running order, with three sample inputs at hand to prove samples stay apart."""

    traced: Traced
    names: dict[Node, Name]
    batch_axes: Sequence[int]  # of every user input
    gates: Gates | None = None  # what is held of smooth operators and products; None refuses them
    values: dict[int, Value] = field(default_factory=dict)  # what is known of every value so far, by number
    steps: list[Step] = field(default_factory=list)
    known: dict[Node, Any] = field(default_factory=dict)  # what every node of the trace is: a Ref, or a constant
    counted: dict[int, Call] = field(default_factory=dict)  # constants that may differ from sample to sample, and why
    recipes: list[Recipe] = field(default_factory=list)  # of constants that were computed from others
    needed: set[int] = field(default_factory=set)  # the identities of the constants that the targets need
    inputs: tuple[int, ...] = ()
    probe: Sequence[Tensor] = ()  # three samples of every user input

    def graph(self, probe: Sequence[Tensor], targets: Sequence[Any]) -> Graph:
        """Freeze what the target nodes (or constants) need; refuse the first operator that has no exact form."""
        self.inputs, self.probe = self._place_inputs(probe), probe
        kept = {target for target in targets if isinstance(target, Node)}
        wanted = set(kept)
        for node in reversed(self.traced.nodes):  # those that use a node come after it
            if node in wanted:
                wanted.update(node.all_input_nodes)
        self.needed = {id(self.known[node]) for node in wanted if node.op == "placeholder"}
        last_use = {argument: node for node in self.traced.nodes for argument in node.all_input_nodes}
        with torch.no_grad():
            for node in self.traced.nodes:
                if node in wanted and node.op not in ("placeholder", "output"):
                    self.known[node] = self._node(node)
                    for argument in node.all_input_nodes:
                        if last_use[argument] is node and argument not in kept:
                            del self.known[argument]  # with its value on the probe batch, for the memory
        outputs = tuple(self._number(self.known[t] if isinstance(t, Node) else t) for t in targets)
        graph = Graph(self.values, tuple(self.steps), self.inputs, outputs)
        graph.carriers()  # refuses what has no affine map and is not upstream of gates alone
        return graph

    def _place_inputs(self, probe: Sequence[Tensor]) -> tuple[int, ...]:
        placeholders = {node.name: node for node in self.traced.nodes if node.op == "placeholder"}
        # What is neither a constant nor an input is an object of PyTorch's own, such as a random generator.
        self.known.update({node: node.meta.get("val") for node in placeholders.values()})
        for name, tensor in self.traced.constants.items():
            self.known[placeholders[name]] = tensor
        numbers = []
        for name, tensor, axis in zip(self.traced.inputs, probe, self.batch_axes, strict=True):
            # Between whole numbers there is nothing that a slope could say.
            dependence = Dependence.AFFINE if tensor.is_floating_point() else Dependence.REGION
            ref = self._new(dependence, tensor, BatchAxis(axis))
            numbers.append(ref.number)
            self.known[placeholders[name]] = ref
        return tuple(numbers)

    def _new(self, dependence: Dependence, sample: Any, batch: BatchAxis | None, traced: Any = None) -> Ref:
        number = len(self.values)
        value = Value(dependence)
        if isinstance(sample, Tensor):
            units = batch.units(sample.shape) if batch else tuple(sample.shape)
            value = Value(dependence, units, batch, sample.dtype)
        self.values[number] = value
        return Ref(number, value, sample, traced)

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
        if _has_tag(call, torch.Tag.nondeterministic_seeded) and not (call.refs and find(call.target)):
            refuse(call, name=_placing(node))
        # What depends on neither the input nor the number of samples is computed once, here.
        if call.refs:
            return self._step(call, name, node)
        operator = call.affine()
        value = operator()
        outputs = tuple(item if isinstance(item, Tensor) else None for item in as_tuple(value))
        self.recipes.append(Recipe(operator, outputs))
        return value

    def _step(self, call: Call, name: Name, node: Node) -> Any:
        call = self._own_rows(call) if call.target is aten.index.Tensor else call
        rule, traced = find(call.target), as_tuple(node.meta["val"])
        if complexes.is_complex(call, traced):
            complexes.check_affine(call)
            shapes = call.kind == "full" or (rule is not None and rule.sizes)
            if not shapes and any(ref.size for ref in call.refs):
                call.refuse(*BATCH_SIZE)
            if any(item.is_complex() for item in traced if isinstance(item, Tensor)):
                return complexes.keep(call)
            call, rule = complexes.compose(call)
        elif call.target in (aten.sym_size.int, aten.full_like.default) or all(ref.size for ref in call.refs):
            return self._size(call, node)
        elif self.gates is not None and any(ref.value.dependence is not Dependence.CONSTANT for ref in call.refs):
            self._check_alike(call)
        elif any(ref.number in self.counted for ref in call.refs):
            return self._size(call, node)
        # With gates held some of the arguments are constants to the rule, which then has a map where it refuses else.
        question = ""
        if self.gates is not None:
            call, question = self.gates.hold(call, name.text, self._gate_of)
            rule = find_smooth(call.target) or rule
        rule = rule or _entrywise(call, self.gates is not None)
        if any(ref.size for ref in call.refs) and not rule.sizes:
            call.refuse(*BATCH_SIZE)
        operator, refusal = self._operator(call, rule, name.text, question)
        try:
            value = run_batch(call, operator, [ref.sample for ref in call.refs], PROBES)
            outputs = as_tuple(value)
            # The proof speaks of the operator; that nothing else grows with the batch, the traced sizes say.
            batch = rule.batch(call, [item for item in outputs if isinstance(item, Tensor)])
        except NotPiecewiseAffine:
            if refusal:  # a matrix that depends on the samples may fail on some; that it has no map comes first
                raise NotPiecewiseAffine(*refusal) from None
            raise
        if not grows(traced[0].shape, batch):
            call.refuse(MIXED, MIXED_CURE)
        refs = [self._new(_dependence(call, operator, item, refusal), item, batch) for item in outputs]
        if self.gates is not None:
            refs = _rank(refs, call, operator, name, question)
        depends = bool(call.active) or refs[0].value.dependence is Dependence.HELD
        records = (_record(call, operator, name, refs[0].value.units),) if depends else ()
        inputs, numbers = (tuple(ref.number for ref in group) for group in (call.refs, refs))
        held = tuple(place for place, ref in enumerate(call.refs) if ref.held)
        self.steps.append(Step(operator, inputs, numbers, records, operator.traits.active, held, refusal))
        return refs if isinstance(value, tuple | list) else refs[0]

    def _gate_of(self, number: int, source: int) -> bool:
        """Whether a value is computed from another that is not the network's input."""
        needed = {number} if source not in self.inputs else set()
        for step in reversed(self.steps):
            if source in step.outputs:  # numbers rise from step to step
                break
            if not needed.isdisjoint(step.outputs):
                needed.update(step.inputs)
        return source in needed and source != number

    def _operator(self, call: Call, rule: Rule, name: str, question: str) -> tuple[Operator, tuple[str, ...]]:
        """The operator of a call; in a smooth network also one that has no affine map, and why it has none."""
        if not call.active:
            return _hold(call), ()
        if self.gates is None:
            try:
                return rule.build(call), ()
            except NotPiecewiseAffine as error:
                raise _name_way_on(call, error) from None
        try:
            if question:
                call.refuse(question, f"say which: capture(..., carrier={{{name!r}: ...}}) with one of these names")
            factors = sum(call.depends(name) for name in call.arguments)  # u * u has two of one
            multiplies = self.gates.tangent and factors > 1 and call.target in MULTIPLYING
            operator: Operator | None = None if multiplies else rule.build(call)
            curved = self.gates.tangent and isinstance(rule, SmoothRule)
            # A curve may have a tangent of its own, by a derivative that does not cancel.
            if multiplies or curved and operator is not None and operator.traits.held != TANGENT:
                operator = Tangent(call.affine(), pieces=2 if call.kind in UNITS else 1)
            if operator is None:
                ordinary = find(call.target)
                operator = refuse(call) if ordinary is None else ordinary.build(call)
        except NotPiecewiseAffine as error:
            # Upstream of gates alone any function will do; where it carries a share of the output, Graph.carriers
            # refuses.
            return _hold(call), (error.operator, error.reason, error.cure, error.module_path, error.source)
        return operator, ()

    def _size(self, call: Call, node: Node) -> Any:
        """A size, or a tensor of one constant whose shape follows the batch."""
        operator = _hold(call)
        sample = operator(*(ref.sample for ref in call.refs))
        counts = [self.counted[item.number] for item in call.refs if item.number in self.counted]
        if call.target in COUNTING and self.gates is not None:
            counts = [call]
        traced, batch = node.meta["val"], None
        if isinstance(sample, Tensor):
            batch = _axis(call, sample, traced.shape) if counts else _uniform(call, sample)
        ref = self._new(Dependence.CONSTANT, sample, batch, traced)
        if counts:
            self.counted[ref.number] = counts[0]
        self.steps.append(Step(operator, tuple(item.number for item in call.refs), (ref.number,), ()))
        return ref

    def _check_alike(self, call: Call) -> None:
        """Refuse a constant that differs from sample to sample where it meets what depends on the input."""
        for ref in call.refs:
            maker = self.counted.pop(ref.number, None)
            if maker is None or ref.value.batch is None:
                continue
            # A causal mask is made of what counts over the batch and yet the same for every sample.
            if any(bool((front != front[:1]).any()) for front in self._by_sample(ref, ref.value.batch, maker)):
                refuse(maker)

    def _by_sample(self, ref: Ref, axis: BatchAxis, maker: Call) -> tuple[Tensor, Tensor]:
        """What a constant is for each sample of the probe, and of a prime number beyond all that made it."""
        graph = Graph(self.values, tuple(self.steps), self.inputs, (ref.number,)).part([ref.number])
        if any(step.records for step in graph.steps):
            refuse(maker)
        written = [number for number in graph.whole_numbers() if number < MOST_SAMPLES]
        count = prime(max([MANY, *(number + 1 for number in written)]))
        firsts = [item.narrow(place, 0, 1) for item, place in zip(self.probe, self.batch_axes, strict=True)]
        inputs = [
            item.expand(*item.shape[:place], count, *item.shape[place + 1 :])
            for item, place in zip(firsts, self.batch_axes, strict=True)
        ]
        return axis.to_front(ref.sample), axis.to_front(graph.run(inputs)[0])

    def _own_rows(self, call: Call) -> Call:
        """A call that counts the samples to read the row of each, as masks of padding do: of the other axes alone."""
        whole, (counter, *places) = call["self"], call["indices"]
        if not all(isinstance(item, Ref) and item.value.batch == BatchAxis() for item in (whole, counter)):
            return call
        maker, rank = self.counted.get(counter.number), counter.sample.dim()
        plain = all(isinstance(item, Tensor) and item.dtype is torch.int64 and item.dim() <= rank for item in places)
        if maker is None or not plain or not places:
            return call
        # Counted are the samples themselves, 0 to N - 1: x[n, places] for sample n is its row of x[:, places].
        fronts = [front.reshape(len(front), -1).T for front in self._by_sample(counter, BatchAxis(), maker)]
        shaped = [item.reshape(*[1] * (rank - item.dim()), *item.shape) for item in places]
        numbered = all(torch.equal(front, torch.arange(front.shape[1]).to(front)[None]) for front in fronts)
        if not numbered or any(len(item) != 1 for item in shaped):
            return call
        return replace(call, arguments=call.arguments | {"indices": [None, *(item[0] for item in shaped)]})

    def _number(self, item: Any) -> int:
        """The graph's number of an output; a constant becomes a step of its own."""
        if isinstance(item, complexes.Complex):
            raise CaptureError(complexes.RETURNED)
        if isinstance(item, Ref):
            return item.number
        if not isinstance(item, Tensor):
            raise CaptureError(f"model: it returns {type(item).__name__} {item!r}; return tensors only")
        ref = self._new(Dependence.CONSTANT, item, None)
        self.steps.append(Step(Held("constant", _identity, (item,), {}), (), (ref.number,), ()))
        return ref.number


def _rank(refs: list[Ref], call: Call, operator: Operator, name: Name, question: str) -> list[Ref]:
    """The values of a call, with what a product that they meet later asks of its factors."""
    shaped = call.active[0] if call.active and call.kind in RESHAPED else None
    called, origin = (shaped.name, origin_of(shaped)) if shaped else (name.text, None)
    rank = gating(call, operator)
    bent = any(ref.bent or ref.value.dependence is Dependence.HELD for ref in call.refs)
    asks = bool(question) or not call.active and any(ref.asks for ref in call.refs)
    return [replace(ref, gating=rank, name=called, origin=origin, bent=bent, asks=asks) for ref in refs]


def _identity(item: Any) -> Any:  # of a module, so that networks can be pickled
    return item


def _placing(node: Node) -> str:
    """The pooling that random numbers are drawn for, if it is one."""
    return next((kind for kind in map(kind_of, node.users) if kind.startswith("fractional_max_pool")), "")


def _has_tag(call: Call, tag: torch.Tag) -> bool:
    return isinstance(call.target, torch._ops.OpOverload) and tag in call.target.tags


def _entrywise(call: Call, smooth: bool) -> Rule:
    """Any function of single entries will do where no entry varies with the input inside a region, or for a gate."""
    if not _has_tag(call, torch.Tag.pointwise) or (call.active and not smooth):
        try:
            refuse(call)
        except NotPiecewiseAffine as error:
            raise _name_way_on(call, error) from None
    return Rule(refuse, pointwise)


def _name_way_on(call: Call, error: NotPiecewiseAffine) -> NotPiecewiseAffine:
    """A refusal that says, of a smooth operator, how it is captured."""
    if find_smooth(call.target) is None and call.target not in MULTIPLYING and call.kind not in OPENED:
        return error
    cure = f"{error.cure}; or hold its gates at the input: capture(..., smooth='frozen')"
    return NotPiecewiseAffine(error.operator, error.reason, cure, error.module_path, error.source)


def _hold(call: Call) -> Held:
    operator = call.affine()
    return Held(operator.kind, operator.target, operator.args, operator.kwargs)


def _uniform(call: Call, sample: Tensor) -> BatchAxis | None:
    """The batch axis of a constant whose shape follows the batch, if it is the same for every sample."""
    if call.target is aten.full_like.default and not isinstance(call["fill_value"], Ref):
        return call["self"].value.batch
    constant = call.arguments.get("fill_value", call.arguments.get("self"))
    sizes = call.arguments.get("size", call.arguments.get("repeats"))
    if call.target not in (aten.full.default, aten.expand.default, aten.repeat.default) or isinstance(constant, Ref):
        refuse(call, BATCH_SIZE)
    axis = _axis(call, sample, sizes or ())
    front = axis.to_front(sample)
    return axis if bool((front == front[:1]).all()) else call.refuse(*BATCH_SIZE)


def _axis(call: Call, sample: Tensor, sizes: Sequence[Any]) -> BatchAxis:
    """The one axis of a constant whose size is no number, for it follows the number of samples."""
    axes = [axis for axis, size in enumerate(sizes) if not isinstance(size, int)]
    if len(axes) != 1:
        refuse(call, BATCH_SIZE)
    return BatchAxis(axes[0], 1, sample.shape[axes[0]] // PROBES)


def _whole(target: Any, args: list) -> bool:
    """Whether this is a slice that keeps everything."""
    return target is aten.slice.Tensor and len(args) == 4 and args[2] in (None, 0) and args[3] == sys.maxsize


def _dependence(call: Call, operator: Operator, output: Tensor, refusal: tuple[str, ...]) -> Dependence:
    """How an output of a call depends on the network's input."""
    if operator.traits.active and output.is_floating_point():
        return Dependence.AFFINE
    gates = [ref for ref in call.refs if ref.held or ref.value.dependence is Dependence.HELD]
    # Places and comparisons are codes; a number that was rounded is none, of whatever type.
    rounded = call.kind == "to_copy" or any(not ref.sample.is_floating_point() for ref in gates)
    if output.dtype is not torch.bool and (refusal or gates and (rounded or output.is_floating_point())):
        return Dependence.HELD
    regional = any(ref.value.dependence is not Dependence.CONSTANT for ref in call.refs)
    return Dependence.REGION if call.active or regional else Dependence.CONSTANT


def _record(call: Call, operator: Operator, name: Name, units: tuple[int, ...]) -> OperatorRecord:
    """What the network says of an operator; of a smooth one also what carries and what is held."""
    traits = operator.traits
    gates = tuple(_word(call, ref) for ref in call.refs if ref.held)
    formula = traits.held or (ATTENTION if call.kind == "scaled_dot_product_attention" and gates else "")
    if gates and traits.active and not formula:
        formula = "carrier / gate*" if call.kind == "div" else "gate* carrier"
    carrier = next((_word(call, ref) for ref in call.active), "") if formula else ""
    return OperatorRecord(
        name=name.text,
        kind=traits.kind,
        pieces=traits.pieces,
        units=units,
        convex=traits.convex,
        continuous=traits.continuous,
        module_path=name.module_path,
        source=name.source,
        held=formula,
        carrier=carrier,
        gates=gates if gates or not formula else (carrier,),
    )


def _word(call: Call, ref: Ref) -> str:
    """What computes an argument; with its place in the call where one thing computes what carries and what gates."""
    word = ref.name or "the input"
    if all((other.name or "the input") != word or other.held == ref.held for other in call.refs):
        return word
    return f"{word} ({next(name for name, item in call.arguments.items() if item is ref)})"
