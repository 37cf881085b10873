"""ONNX files as ordinary modules, compared with onnxruntime before anything is said about them."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import BadInput, ModelError, first_line
from .nature import nature
from .onnx_operators import OPERATORS, RESULTS, Call, argument_slots, as_numbers, is_numbers, run

if TYPE_CHECKING:
    import onnx
    import onnxruntime

EXTRA = "pip install 'maxaffine[onnx]'"
EXPORT = "export the model again with a dynamic batch: torch.onnx.export(..., dynamic_shapes=({0: 'batch'},))"
# Constants of at most one axis and this many numbers may be shapes and the like.
FEW = 1024
MOST_CHECKED = 64
# Reshapings that are tried while the axis of the samples is looked for.
TRIES = 400
# How much farther than our own rounding, measured in double precision, another order of the same sums may end.
ROUNDING = 32


class OnnxNode(nn.Module):
    """One node of a file, which holds the weights that it reads."""

    def __init__(self, call: Call, sources: Sequence[Any]) -> None:
        super().__init__()
        self.call = call
        self.sources: list[Any] = []  # per input: a name of a value, numbers, or the name of a tensor of its own
        for source in sources:
            if not isinstance(source, tuple):
                self.sources.append(source)
                continue
            wanted, tensor = source
            plain = _identifier(wanted.rpartition(".")[2]) or "constant"
            names = chain([plain], (f"{plain}_{number}" for number in count(2)))
            name = next(name for name in names if not hasattr(self, name))
            (self.register_parameter if isinstance(tensor, nn.Parameter) else self.register_buffer)(name, tensor)
            self.sources.append((name,))

    def forward(self, *values: Any) -> Any:
        """What the node gives for the values that it does not hold itself, in their order."""
        left = iter(values)
        given = [
            next(left) if isinstance(source, str) else getattr(self, source[0]) if isinstance(source, tuple) else source
            for source in self.sources
        ]
        return run(self.call, given)


class OnnxNetwork(nn.Module):
    """The graph of an ONNX file, whose initializers are its parameters; of all outputs or the one that is named."""

    def __init__(self, model: onnx.ModelProto, name: str, output: str | None = None) -> None:
        super().__init__()
        self.name, self.agreement = name, ""
        graph = model.graph
        held = {item.name for item in graph.initializer}
        inputs = [item for item in graph.input if item.name not in held]
        self.inputs = {item.name: _declared(item) for item in inputs}
        self.outputs = [item.name for item in graph.output]
        if output is not None and output not in self.outputs:
            raise BadInput(f"output: {name} has no output {output!r}; it has {', '.join(self.outputs)}")
        self.wanted = self.outputs if output is None else [output]
        self.opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 1)
        self.results: list[list[str]] = []
        self.fixed: int | None = None  # the only number of samples that the graph takes
        self.shape: tuple[int, ...] | None = None  # of one sample, where those given have another one
        self._read(graph)

    def _read(self, graph: onnx.GraphProto) -> None:
        constants: dict[str, Any] = {item.name: _tensor(item) for item in graph.initializer}
        used = {name for node in graph.node for name in node.input} | {*self.wanted}
        shared: dict[str, nn.Parameter] = {}
        for place, node in enumerate(self._unfolded(graph.node, constants, used)):
            call = _call(node, self.opset)
            if call.kind == "Constant":
                constants[node.output[0]] = _constant(call)
                continue
            if node.domain not in ("", "ai.onnx") or call.kind not in OPERATORS:
                domain = "" if node.domain in ("", "ai.onnx") else f" of the domain {node.domain!r}"
                raise call.refusal(
                    f"there is no reading of this operator{domain}",
                    "load the model from PyTorch (package.module:factory), or export it without this operator",
                )
            if extra := used & {*node.output[RESULTS.get(call.kind, 1) :]}:
                raise call.refusal(f"its further output {extra.pop()!r} is used, which is not read")
            sources = [self._source(call, slot, name, constants, shared) for slot, name in enumerate(node.input)]
            if all(is_numbers(source) or source is None for source in sources):
                # Shapes and limits that are computed, but from nothing that flows: once is enough.
                found = run(call, sources)
                constants.update(zip(node.output, found if isinstance(found, tuple) else [found], strict=False))
                continue
            self.add_module(self._title(call, place), OnnxNode(call, sources))
            self.results.append(list(node.output))
        self.constants = {name: constants[name] for name in self.wanted if name in constants}

    def _unfolded(
        self, nodes: Iterable[onnx.NodeProto], constants: dict[str, Any], used: set[str]
    ) -> Iterator[onnx.NodeProto]:
        """The nodes one after the other; in place of an If whose condition is known by then, those of its branch."""
        from onnx import helper

        for node in nodes:
            if node.op_type != "If" or node.input[0] not in constants:
                yield node
                continue
            chosen = "then_branch" if constants[node.input[0]].item() else "else_branch"
            branch = next(item.g for item in node.attribute if item.name == chosen)
            constants.update({item.name: _tensor(item) for item in branch.initializer})
            used.update(name for inner in branch.node for name in inner.input)
            yield from self._unfolded(branch.node, constants, used)
            for inner, outer in zip(branch.output, node.output, strict=True):
                yield helper.make_node("Identity", [inner.name], [outer])

    def _source(
        self, call: Call, slot: int, name: str, constants: dict[str, Any], shared: dict[str, nn.Parameter]
    ) -> Any:
        """Where an input of a node comes from: the name of a value, numbers, or a tensor with its name."""
        if name not in constants:
            return name or None
        value = constants[name]
        if is_numbers(value):
            return value
        whole = not value.is_floating_point() and value.ndim == 1 and len(value) < FEW
        if value.ndim == 0 or whole or slot in argument_slots(call.kind):
            return as_numbers(value.tolist())
        # The statistics of a batch-norm are not trained.
        if not value.is_floating_point() or (call.kind == "BatchNormalization" and slot > 2):
            return name, value
        return name, shared.setdefault(name, nn.Parameter(value))

    def _title(self, call: Call, place: int) -> str:
        wanted = _identifier(call.name) or f"{call.kind}_{place}"
        return f"{wanted}_{place}" if hasattr(self, wanted) else wanted

    @property
    def nodes(self) -> list[OnnxNode]:
        """The nodes in running order."""
        return [node for node in self.children() if isinstance(node, OnnxNode)]

    def forward(self, *inputs: Tensor) -> Any:
        """The output, or a dict of several by their names, for inputs in the file's order."""
        inputs = inputs if self.shape is None else (inputs[0].flatten(1).unflatten(1, self.shape),)
        if self.fixed is not None and len(inputs[0]) != self.fixed:
            parts = [self._run(row) for row in zip(*(x.split(self.fixed) for x in inputs), strict=True)]
            found = {name: torch.cat([part[name] for part in parts]) for name in self.wanted}
        else:
            found = self._run(inputs)
        return found if len(found) > 1 else found[self.wanted[0]]

    def _run(self, inputs: Sequence[Tensor]) -> dict[str, Any]:
        values = {**self.constants, **dict(zip(self.inputs, inputs, strict=True))}
        for node, names in zip(self.nodes, self.results, strict=True):
            found = node(*(values[source] for source in node.sources if isinstance(source, str)))
            values.update(zip(names, found if isinstance(found, tuple | list) else [found], strict=False))
        return {name: values[name] for name in self.wanted}

    def extra_repr(self) -> str:
        """How well it agrees with onnxruntime."""
        return self.agreement

    def widen(self) -> None:
        """Let a graph that is written for one number of samples take any, where that is right."""
        # Reshapings to a fixed shape are what holds it: in each, one size is that of the samples, or a multiple of it.
        # Which one is found by running the graph with that number of samples and with twice as many.
        shapes = list(self.inputs.values())
        count = shapes[0][0] if shapes and shapes[0] else None
        if count is None or any(size is None for shape in shapes for size in shape):
            return
        before = [node.sources for node in self.nodes]
        first, second = (self.random_inputs(seed) for seed in (0, 1))
        both = [torch.cat(pair) for pair in zip(first, second, strict=True)]
        self.tries = TRIES
        with torch.no_grad():
            alone = [self._run(inputs) for inputs in (first, second)]
            few = {**self.constants, **dict(zip(self.inputs, first, strict=True))}
            many = {**self.constants, **dict(zip(self.inputs, both, strict=True))}
            if self._release(0, few, many, alone):
                return
        for node, sources in zip(self.nodes, before, strict=True):
            node.sources = sources
        if count != 1:
            raise ModelError(f"{self.name}: it takes {count} samples together and no other number; {EXPORT}")
        self.fixed = 1

    def _release(self, start: int, few: dict[str, Any], many: dict[str, Any], alone: list[dict[str, Any]]) -> bool:
        """Run the nodes from a place on for both numbers of samples; whether every sample gets what it gets alone."""
        steps = list(zip(self.nodes, self.results, strict=True))
        try:
            for place in range(start, len(steps)):
                node, names = steps[place]
                free = [source for source in node.sources if isinstance(source, str)]
                found = _listed(node(*(few[name] for name in free)))
                if node.call.kind == "Reshape" and len(free) == 1 and few[free[0]].shape != many[free[0]].shape:
                    return self._choose(place, found[0], few, many, alone)
                few.update(zip(names, found, strict=False))
                many.update(zip(names, _listed(node(*(many[name] for name in free))), strict=False))
            return all(
                torch.allclose(many[name], torch.cat([part[name] for part in alone]), rtol=1e-3, atol=1e-5)
                for name in self.wanted
            )
        except (RuntimeError, IndexError, ValueError, ModelError):
            return False

    def _choose(
        self, place: int, found: Tensor, few: dict[str, Any], many: dict[str, Any], alone: list[dict[str, Any]]
    ) -> bool:
        """Find the size of a fixed shape that the samples have a share in, by going on with each in turn."""
        node, names = self.nodes[place], self.results[place]
        given, wider = few[node.sources[0]].shape, many[node.sources[0]].shape
        axis = next(axis for axis, pair in enumerate(zip(given, wider, strict=True)) if pair[0] != pair[1])
        ahead, shape = prod(given[:axis]), list(found.shape)

        def unlikely(at: int) -> tuple[bool, bool]:
            # Rows go in their order: what is ahead of the samples stays ahead, and their axis is often kept.
            return prod(shape[:at]) != ahead, shape[at] != given[axis]

        for at in sorted(range(len(shape)), key=unlikely):
            self.tries -= 1
            if self.tries < 0:
                return False
            # The size follows from the others, whatever the number of samples.
            node.sources = [node.sources[0], as_numbers([*shape[:at], -1, *shape[at + 1 :]])]
            try:
                more = node(many[node.sources[0]])
            except RuntimeError:
                continue
            if self._release(place + 1, {**few, names[0]: found}, {**many, names[0]: more}, alone):
                return True
        return False

    def random_inputs(self, seed: int = 0) -> list[Tensor]:
        """Inputs of the declared shapes, two where any number of samples is taken."""
        generator = torch.Generator().manual_seed(seed)
        return [
            torch.randn([size or (2 if axis == 0 else 1) for axis, size in enumerate(shape)], generator=generator)
            for shape in self.inputs.values()
        ]


def load_onnx(path: Path, output: str | None = None, inputs: Tensor | Sequence[Tensor] | None = None) -> OnnxNetwork:
    """Read an ONNX file as a module, once its outputs agree with onnxruntime's on inputs given or random."""
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModelError(f"{path}: onnx and onnxruntime read it, and {error.name} is absent; {EXTRA}") from error
    network = OnnxNetwork(_read_file(path, onnx), path.name, output).eval()
    network.widen()
    given = [inputs] if isinstance(inputs, Tensor) else inputs
    if given is None and any(size is None for shape in network.inputs.values() for size in shape[1:]):
        raise BadInput(f"inputs: {path.name} leaves its shapes open; give a batch of inputs to compare on")
    given = network.random_inputs() if given is None else given
    taken = _fit_shapes(network, given)
    network.agreement = _agreement(network, _session(path, onnxruntime), [x[:MOST_CHECKED] for x in taken])
    if network.shape is not None:
        network.agreement += f"; inputs of shape {tuple(given[0].shape[1:])} are read as {network.shape}"
    return network


def _read_file(path: Path, onnx: Any) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
        if not model.graph.output:
            raise ValueError("it has no graph")
    except Exception as error:  # protobuf's, the file system's and onnx's own are not one family
        found = nature(path)
        missing = "data_location" in str(error) or "external" in str(error).lower() or ".data" in str(error)
        if found or not missing:
            found = found or f"is not an ONNX file ({first_line(error)}); check the path, or export the model again"
            raise ModelError(f"{path}: {found}") from error
        raise ModelError(
            f"{path}: its weights are in another file beside it, which cannot be read ({first_line(error)}); put that "
            "file into the same folder under its own name, or export with external_data=False"
        ) from error
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _session(path: Path, onnxruntime: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"{path}: onnxruntime, which it is compared with, cannot run it ({first_line(error)}); upgrade it, "
            "or export the model for an older opset"
        ) from error


def _fit_shapes(network: OnnxNetwork, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """The inputs as the file declares them, once it is clear how; the network then takes them as they were given."""
    if len(inputs) != len(network.inputs):
        names = ", ".join(network.inputs)
        raise BadInput(f"model: {network.name} takes {len(network.inputs)} inputs ({names}), not {len(inputs)}")
    for (name, declared), given in zip(network.inputs.items(), inputs, strict=True):
        wanted, own = tuple(declared[1:]), tuple(given.shape[1:])
        if len(wanted) == len(own) and all(size in (None, n) for size, n in zip(wanted, own, strict=True)):
            continue
        fixed = tuple(size for size in wanted if size is not None)
        if len(inputs) > 1 or fixed != wanted or not _same_order(fixed, own):
            raise BadInput(
                f"model: {network.name} takes inputs {name!r} of shape {wanted}, not {own}; bring the data in that "
                "shape (.npz or .npy)"
            )
        network.shape = fixed
        return [given.flatten(1).unflatten(1, fixed)]
    return inputs


def _same_order(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes hold the same numbers in one order only: but for axes of size 1, or rows of one gray image."""
    # Several channels in a row may lie one after the other or pixel by pixel, so that they are not taken for either.
    flat, whole = sorted((one, other), key=lambda shape: sum(size != 1 for size in shape))
    few, many = ([size for size in shape if size != 1] for shape in (flat, whole))
    return few == many or (len(few) == 1 and len(many) == 2 and whole[0] == 1 and prod(few) == prod(many))


@torch.no_grad()
def _agreement(network: OnnxNetwork, session: onnxruntime.InferenceSession, inputs: Sequence[Tensor]) -> str:
    """In words, how far the outputs are from onnxruntime's; refused beyond rounding."""
    # A file of a fixed number of samples runs for that number alone, the last ones repeated.
    fixed = next(iter(network.inputs.values()))[0] or len(inputs[0])
    count = len(inputs[0]) - len(inputs[0]) % fixed or fixed
    inputs = [torch.cat([x] * -(-count // len(x)))[:count].contiguous() for x in inputs]
    types = {item.name: item.type for item in session.get_inputs()}
    arrays = {
        name: x.numpy().astype({"tensor(double)": "f8", "tensor(float16)": "f2"}.get(types[name], "f4"))
        if x.is_floating_point()
        else x.numpy()
        for name, x in zip(network.inputs, inputs, strict=True)
    }
    try:
        parts = [
            session.run(network.wanted, {name: x[start : start + fixed] for name, x in arrays.items()})
            for start in range(0, count, fixed)
        ]
    except Exception as error:
        raise ModelError(
            f"{network.name}: onnxruntime, which it is compared with, fails on it ({first_line(error)}); check the "
            "inputs, or export the model again"
        ) from error
    truth = {
        name: torch.cat([torch.as_tensor(part[place]) for part in parts]) for place, name in enumerate(network.wanted)
    }
    own = _outputs(network, [torch.from_numpy(x) for x in arrays.values()])
    exact = _outputs(copy.deepcopy(network).double(), [torch.from_numpy(x).double() for x in arrays.values()])
    farthest, largest, rounding = 0.0, 0.0, 0.0
    for name, theirs in truth.items():
        if tuple(theirs.shape) != tuple(own[name].shape):
            raise ModelError(
                f"{network.name}: its output {name!r} has shape {tuple(theirs.shape)} in onnxruntime and "
                f"{tuple(own[name].shape)} here; {REPORT}"
            )
        other, mine, double = theirs.double(), own[name].double(), exact[name].double()
        farthest = max(farthest, float((other - mine).abs().max()))
        largest = max(largest, float(other.abs().max()))
        rounding = max(rounding, float((double - mine).abs().max()))
    unit = torch.finfo(next((x.dtype for x in own.values() if x.is_floating_point()), torch.float32)).eps
    allowed = ROUNDING * max(rounding, unit * largest)
    words = f"differ from onnxruntime's by at most {farthest:.1e}, on {count} inputs, with outputs up to {largest:.2g}"
    if not farthest <= allowed:
        raise ModelError(f"{network.name}: its outputs {words}; rounding explains {allowed:.1e}; {REPORT}")
    return f"opset {network.opset}: outputs {words}"


REPORT = "so it is not read as it is meant: load the model from PyTorch instead, and report the file"


def _outputs(network: OnnxNetwork, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    found = network(*inputs)
    return found if isinstance(found, dict) else {network.wanted[0]: found}


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple | list) else [found]


def _identifier(name: str) -> str:
    """A name as one of an attribute may be: no dots, no slashes."""
    return re.sub(r"\W+", "_", name).strip("_")


def _declared(item: onnx.ValueInfoProto) -> list[int | None]:
    """The sizes of an input, None for one that is left open."""
    return [axis.dim_value or None for axis in item.type.tensor_type.shape.dim]


def _tensor(item: onnx.TensorProto) -> Tensor:
    from onnx import numpy_helper

    array = numpy_helper.to_array(item)
    # NumPy has no bfloat16 and the like of its own.
    return torch.from_numpy(np.array(array if array.dtype.kind in "fiub" else array.astype(np.float32)))


def _call(node: onnx.NodeProto, opset: int) -> Call:
    """A node without its inputs; tensors among its attributes are PyTorch's."""
    import onnx

    attributes: dict[str, Any] = {}
    for item in node.attribute:
        value = onnx.helper.get_attribute_value(item)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = _tensor(value)
        elif isinstance(value, list) and value and isinstance(value[0], bytes):
            value = [word.decode() for word in value]
        attributes[item.name] = value
    if node.op_type == "ConstantOfShape" and "value" in attributes:
        # A number of Python's: in a traced graph nothing may read one from a tensor.
        attributes["dtype"] = attributes["value"].dtype
        attributes["value"] = attributes["value"].item()
    if node.op_type == "Cast":
        kind = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
        attributes["to"] = torch.from_numpy(np.zeros(1, kind)).dtype
    return Call(node.op_type, node.name or node.output[0], opset, attributes, len(node.output))


def _constant(call: Call) -> Any:
    """The value of a node Constant: numbers where it may be a shape or one number, else a tensor."""
    value = next((call.get(name) for name in ("value", *LISTED) if name in call.attributes), None)
    if value is None:
        raise call.refusal(f"it holds {', '.join(call.attributes)}")
    if isinstance(value, Tensor) and (value.ndim > 1 or value.numel() > SCALES):
        return value
    return as_numbers(value.tolist() if isinstance(value, Tensor) else value)


SCALES = 8  # as many numbers as the scales and limits that a file computes with have
LISTED = ("value_int", "value_ints", "value_float", "value_floats")
