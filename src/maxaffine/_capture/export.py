"""The user's module as a functional graph of ATen operators, traced by torch.export; the module is left as it was."""

import contextlib
import copy
import importlib
import inspect
import io
import logging
import operator as python_operator
import random
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from traceback import walk_tb
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ExportGraphSignature
from torch.export.dynamic_shapes import ShapesCollection
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_leaves

from maxaffine._capture.apart import apart, substitute
from maxaffine._capture.causes import cause, fixing_lines
from maxaffine._capture.decompositions import OpenSizes
from maxaffine._network import Source
from maxaffine._untouched import keep_attributes
from maxaffine.errors import CaptureError, NotPiecewiseAffine, first_line

# PyTorch traces one module at a time: it replaces nn.Module's own methods meanwhile, and streams and filters are set.
TRACER = threading.RLock()
# They report a failed trace at length; our own error says what matters.
NOISY = ("torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")

OUTSIDE = (
    "it computes outside the traced graph (.data, .numpy(), torch.autograd.grad). Cure: write .detach() for .data,"
    " and use tensor operations throughout"
)
BIND = (
    "what is not a tensor is bound in two lines, and Bound(model) is captured:\n"
    "    class Bound(torch.nn.Sequential):\n"
    "        def forward(self, x): return self[0](x, True)"
)
CHANGES = {"BUFFER_MUTATION": "buffer", "PARAMETER_MUTATION": "parameter"}
# What PyTorch says, and what it means for the user.
KNOWN = {
    "to have 1 channels, but got": "its convolution takes one channel, and the example gives others ({first}). Cure:"
    " give inputs without an axis of channels one, x[:, None], volumes (N, 1, D, H, W) for instance",
    "missing a required argument": "it takes more than the example gives ({first}). Cure: give a tuple of tensors, or a"
    " dict of them by the names that forward gives its arguments; " + BIND,
    "not a known type": "it takes or returns objects of a class that PyTorch cannot look into. Cure: return tensors in"
    " a tuple, a dict or a named tuple, or register the class with torch.export.register_dataclass",
    "is mutated in the forward method": "it changes a tensor of its own while it runs, so one input does not give one"
    " output. Cure: leave that out in evaluation mode",
    "fake tensor in the exported program": OUTSIDE,
    ".numpy() is not supported": OUTSIDE,
    "UnsupportedOperator": "PyTorch cannot trace {first} on the tensors it is given (sparse, quantized?). Cure: use"
    " dense floating-point tensors and operators",
    "UncapturedHigherOrderOpError": "PyTorch cannot trace the function that it hands to torch.cond, scan, map or"
    " while_loop ({first}). Cure: use torch.where for a condition, and a loop in Python",
    "__obj_flatten__": "it holds quantized parts, which PyTorch cannot trace. Cure: capture the floating-point module"
    " that it was made from",
}


# What can be seen from outside; whose code fixes the number, the module's or PyTorch's own, cannot.
ONE_SIZE = "PyTorch traces it for one batch size only{where}"
ONE_SIZE_CURE = (
    "Cure: write shapes with x.shape[0] or -1 in place of the number, let the module treat each sample alone (work"
    " along the other axes; batch_dim= says which one holds the samples), or export an exported program again with a"
    " dynamic batch"
)


class FixedBatch(CaptureError):
    """A trace that holds for one number of samples only."""

    def __init__(self, where: str) -> None:  # the line that fixes it, as words after "one batch size only"
        super().__init__(
            f"model: {ONE_SIZE.format(where=where)}, and cannot run the graph of one sample for all of them either."
            f" {ONE_SIZE_CURE}"
        )
        self.where = where


@dataclass(frozen=True)
class Traced:
    """A traced module."""

    nodes: tuple[Node, ...]  # of the functional graph, in running order
    constants: dict[str, Tensor]  # frozen copies of parameters, buffers and lifted constants, by placeholder name
    named: dict[str, Source]  # those of parameters and buffers, by name in the module
    inputs: tuple[str, ...]  # placeholder names of the user's inputs, in order
    outputs: tuple[Any, ...]  # the user's outputs, each a node or a constant
    output_spec: Any  # how they are nested
    module: GraphModule  # the graph as a module


def trace(model: nn.Module, args: tuple, kwargs: dict[str, Any], batch_dims: Any, owned: bool, smooth: bool) -> Traced:
    """Trace a module, which no other thread may use meanwhile, for any number of samples."""
    # batch_dims nests the axes of the samples as (args, kwargs) nest the tensors, of two samples at least; with None
    # the graph holds for the example's own sizes only. What is owned belongs to the capture, and is not copied again.
    batch = Dim("batch", max=2**31)  # PyTorch 2.7 takes an unbounded size for a constraint
    # By tensor: a module may take them as *args, or as named arguments in any order.
    shapes = ShapesCollection()
    for tensor, axis in zip(tree_leaves((args, kwargs)), tree_leaves(batch_dims), strict=True) if batch_dims else ():
        shapes[tensor] = {axis: batch}
    dynamic: Any = shapes if batch_dims else None  # PyTorch's annotation leaves it out
    with untouched(model), fixing_lines() as lines:

        def export() -> ExportedProgram:
            lines.clear()  # of a trace before
            with OpenSizes():
                return torch.export.export(
                    _name_inputs(model, kwargs), args, kwargs, dynamic_shapes=dynamic, strict=False
                )

        try:
            program = apart(model, export, smooth)
        except Exception as error:
            # What the module calls says more than what the tracer was about when it gave up.
            found = cause(model, args, kwargs, error)
            if found:
                raise CaptureError("model: {}. Cure: {}".format(*found)) from error
            if _fixes_batch(error):
                raise FixedBatch(f" (at {lines[0]})" if lines else "") from error
            raise CaptureError(_explanation(error, tree_leaves((args, kwargs)))) from error
    return _freeze(program, model if owned else nn.Module())


def _name_inputs(model: nn.Module, kwargs: dict[str, Any]) -> nn.Module:
    """The module, its keyword inputs named one by one: PyTorch cannot trace ``**kwargs`` with a dynamic batch."""
    if not kwargs:  # TorchScript, which has no signature, is refused when it is traced
        return model
    known = inspect.signature(model.forward).parameters.values()
    if all(item.kind is not Parameter.VAR_KEYWORD for item in known):
        return model

    def forward(**inputs: Tensor) -> Any:
        return model.forward(**inputs)

    forward.__signature__ = Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in kwargs])
    named = copy.copy(model)
    named.forward = forward
    return named


def _explanation(error: Exception, example: list[Tensor]) -> str:
    """The cause of a failed trace in the user's terms."""
    text, kind, first = str(error).strip(), type(error).__name__, first_line(error)
    line = user_frame(error)
    where = f" at {line}" if line else ""
    if "data-dependent" in text or "DataDependent" in kind or "DynamicOutputShape" in kind:
        return (
            f"model: its control flow or a shape depends on the data{where}, so it is not one fixed graph. Cure:"
            " replace the Python `if`, `.item()` or boolean indexing by torch.where, or capture the part before it"
        )
    for sign, explanation in KNOWN.items():
        if sign in text or kind.startswith(sign):
            return f"model: {explanation.format(first=first)}"
    shapes = " and ".join(str(tuple(tensor.shape)) for tensor in example)
    return (
        f"model: it failed on the example, of shape {shapes} ({kind}: {first}){where}. Cure: check that model(example)"
        " runs, with the example's shapes, dtype and device, and that batch_dim= is the axis of the samples"
    )


def _fixes_batch(error: Exception) -> bool:
    """Whether a trace failed since it holds for one number of samples only."""
    text = str(error)
    return "batch" in text and ("specializ" in text or "onstraint" in text) or "Guard failed" in text


def user_frame(error: Exception) -> str:
    """The innermost line of a forward of the user's that an error passed through."""
    frames = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_code.co_name == "forward"
        and not any(part in frame.f_code.co_filename for part in ("/torch/", "maxaffine"))
    ]
    return frames[-1] if frames else ""


def _freeze(program: ExportedProgram, owner: nn.Module) -> Traced:
    """Copy the constants once each (shared parameters stay shared) and pick out what the user gives and gets."""
    graph, signature = program.graph, program.graph_signature
    _drop_tokens(graph, signature)
    changed = [spec for spec in signature.output_specs if spec.kind.name in CHANGES]
    if changed:
        kind, name = CHANGES[changed[0].kind.name], str(changed[0].target)
        raise NotPiecewiseAffine(
            _operator(next(node for node in graph.nodes if node.name == changed[0].arg.name)),
            f"the module changes its {kind} {name!r} while it runs, so one input does not give one output",
            "call model.eval() before capture, and model(example) once if it does so at its first run alone; a module"
            f" that changes a {kind} at every run has no spline form",
            name.rpartition(".")[0],
        )
    # Tensors of one place are one. Those of an owner are there already, so no memory is taken for them.
    own = [item.detach() for item in (*owner.parameters(), *owner.buffers()) if item.layout is torch.strided]
    copies = {_place(item): item for item in own if item.data_ptr()}
    held: dict[str, Any] = {**program.constants, **program.state_dict}
    lifted = signature.inputs_to_lifted_tensor_constants
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **lifted}
    outputs: Any = graph.output_node().args[0]
    specs = [spec for spec in signature.output_specs if spec.kind.name != "TOKEN"]
    kept = [item for item, spec in zip(outputs, specs, strict=True) if spec.kind.name == "USER_OUTPUT"]
    return Traced(
        nodes=tuple(graph.nodes),
        constants={placeholder: _copy(held[name], copies) for placeholder, name in sources.items()},
        named={
            name: Source(
                _copy(held[name], copies),
                isinstance(held[name], nn.Parameter),
                name in program.state_dict,
                held[name].requires_grad,
            )
            for name in {**program.state_dict, **dict.fromkeys(signature.inputs_to_buffers.values())}
            if held[name].layout is torch.strided
        },
        inputs=tuple(str(name) for name in signature.user_inputs),
        outputs=tuple(kept),
        output_spec=program.call_spec.out_spec,
        module=program.graph_module,
    )


def _operator(node: Node) -> str:
    """The name of the operator that computes a node."""
    while node.target is python_operator.getitem:
        node = node.all_input_nodes[0]
    schema = getattr(node.target, "_schema", None)
    return "a buffer update" if schema is None else schema.name.replace("::", ".")


def _drop_tokens(graph: Graph, signature: ExportGraphSignature) -> None:
    """Take out what keeps effects (a print, the check that a matrix is regular) in order: PyTorch's tokens."""
    # with_effects(token, operator, *arguments) gives the next token, then what the operator gives, so the places of its
    # values move up by one. An operator of which nothing is used goes too: whether it fails, a run of the module shows.
    output: Any = graph.output_node()
    places = zip(output.args[0], signature.output_specs, strict=True)
    output.args = (tuple(item for item, spec in places if spec.kind.name != "TOKEN"),)
    unused = {spec.arg.name for spec in signature.input_specs if spec.kind.name == "TOKEN"}
    for node in [node for node in graph.nodes if getattr(node.target, "__name__", "") == "with_effects"]:
        unused |= {node.name, *(user.name for user in node.users)}
        used = [user for user in node.users if user.args[1] and user.users]
        if used:
            _, target, *arguments = node.args
            with graph.inserting_before(node):
                call = graph.call_function(target, tuple(arguments), node.kwargs)
            values = node.meta["val"][1:]
            call.meta = {**node.meta, "val": values if len(values) > 1 else values[0]}
            for user in used:
                if len(values) > 1:
                    user.args = (call, user.args[1] - 1)
                    unused.discard(user.name)
                else:
                    user.replace_all_uses_with(call)
    for node in reversed(graph.nodes):
        if node.name in unused:
            graph.erase_node(node)


def _place(tensor: Tensor) -> tuple:
    """What two tensors have in common that are one, though not one object."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _copy(tensor: Tensor, copies: dict[Any, Tensor]) -> Tensor:
    key = _place(tensor)
    if key not in copies or tensor.data_ptr() == 0:  # an empty tensor has no place
        copies[key] = tensor.detach().clone()
    return copies[key]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back whatever tracing could change: random states, gradient mode, and every attribute of the modules."""
    python, numeric, gradient = random.getstate(), np.random.get_state(), torch.is_grad_enabled()
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    logs = [logging.getLogger(name) for name in NOISY]
    silent = [log.disabled for log in logs]
    random_states = torch.random.fork_rng(devices=sorted(devices))
    with TRACER, random_states, warnings.catch_warnings(), _quiet(), _here_only(), keep_attributes(model):
        warnings.simplefilter("ignore")
        for log in logs:
            log.disabled = True
        try:
            yield
        finally:
            for log, disabled in zip(logs, silent, strict=True):
                log.disabled = disabled
            torch.set_grad_enabled(gradient)
            random.setstate(python)
            np.random.set_state(numeric)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export prints the graph when it fails; our own error says what matters."""
    streams: list[Any] = [_Elsewhere(sys.stdout), _Elsewhere(sys.stderr)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        yield


class _Elsewhere:
    """A stream that loses what this thread writes, and passes on what others do."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream or io.StringIO()
        self.thread = threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self.thread else self.stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def _here_only() -> Iterator[None]:
    """PyTorch says of the whole process that it is exporting, and takes other threads' optimizers into its trace."""
    # Its compiler keeps both by identity, in tables that it fills when first asked: not with those put in their place.
    tables: Any = importlib.import_module("torch._dynamo.variables.torch")
    getattr(tables, "tracing_state_functions", int)()
    getattr(tables.TorchInGraphFunctionVariable, "_get_handlers", int)()
    here, compiles, exports = threading.get_ident(), torch.compiler.is_compiling, torch.compiler.is_exporting
    with substitute(
        torch.compiler,
        is_compiling=lambda: threading.get_ident() == here and compiles(),
        is_exporting=lambda: threading.get_ident() == here and exports(),
    ):
        yield
