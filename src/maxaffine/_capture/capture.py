"""capture: any nn.Module and an example in, its exact spline form out, or a refusal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._pytree import tree_structure

import maxaffine._capture.rules  # noqa: F401 (fills the registry)
from maxaffine._capture.alone import check_other_sizes, check_single, output_axes
from maxaffine._capture.batch import PROBES
from maxaffine._capture.export import BIND, TRACER, FixedBatch, Traced, trace
from maxaffine._capture.freeze import Freezer
from maxaffine._capture.gates import Gates
from maxaffine._capture.mapped import Mapped
from maxaffine._capture.names import Name, find_node, name_nodes
from maxaffine._capture.spline_network import SplineNetwork
from maxaffine._capture.state import Subject, check_runs, check_state
from maxaffine._graph import all_finite
from maxaffine._network import Ending, InputSpec, Sources, Task, copy_module, output_names
from maxaffine.errors import BadInput, CaptureError, NotPiecewiseAffine, ShapeMismatch

FINAL = ("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax", "sigmoid", "tanh", "log_sigmoid")


def capture(
    model: nn.Module,
    example: Any,
    *,
    until: str | None = None,
    output: str = "as_is",
    batch_dim: int | tuple[int, ...] = 0,
    task: Task | str | Sequence[Task | str] | None = None,
    smooth: str = "refuse",
    carrier: Mapping[str, str] | None = None,
) -> SplineNetwork:
    """Turn a module into its exact spline form, or refuse.

    Every operator on a value that depends on the input is affine, piecewise affine with a code, or refused; nothing
    is approximated. A copy of the module is traced and run, so the module, its mode and hooks stay as they are, and may
    be used and trained in other threads meanwhile; two captures wait for each other. A module whose copy does not run
    is traced itself, and put back afterwards.

    Args:
        model: Any piecewise-affine ``nn.Module``, in evaluation mode if it holds dropout or batch-norm.
        example: A tensor of inputs (N, *in), a tuple of tensors for several positional inputs, or a dict by name.
        until: Name of an operator or module after which to stop, e.g. ``"fc"``.
        output: ``"as_is"``, or ``"pre_activation"`` to stop before a final softmax, log-softmax, sigmoid or tanh in
            each output that ends in one; or of several outputs the name of one, such as ``"logits"``: the key of a
            dict, the field of a named tuple or a dataclass.
        batch_dim: The axis of the samples, one for all inputs or one per input.
        task: What the outputs answer, one word for all or one for each: ``"classes"`` (the largest output, or the
            sign of a single logit), ``"value"``, ``"values"`` or ``"field"`` (values over 2 or 3 coordinates). By
            default it is inferred, see :meth:`SplineNetwork.task`.
        smooth: What becomes of operators that are not piecewise affine, such as GELU, softmax and layer norm:
            ``"refuse"`` them; hold their gates at the input, ``"frozen"``, so that f(x) = A[x] x + b[x] exactly at each
            input, though A is not the Jacobian and there are no regions; or take the ``"tangent"``, A = J and
            b = f - J x.
        carrier: With ``smooth="frozen"``, which factor of a product of two values carries, the other being held: the
            name of what computes it or its argument's, by the name of the product or a pattern such as ``"*.bmm"``.
            Needed only where a refusal asks for it.

    Returns:
        The network, for any number of samples.

    Raises:
        NotPiecewiseAffine: At the first operator that has no exact piecewise-affine form.
        CaptureError: When the module fails on the example or is not one fixed graph.
        BadInput: For a wrong argument.
        ShapeMismatch: When example and module differ in dtype or device.

    Example:
        >>> import torch, maxaffine as ma
        >>> net = ma.capture(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()), torch.zeros(1, 2))
        >>> [record.name for record in net.operators]
        ['0', '1']
    """
    if not isinstance(model, nn.Module):
        raise BadInput(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    gates = _gates(smooth, carrier)
    spec = _input_spec(example, batch_dim)
    gradients = torch.is_grad_enabled()
    # Constants made in inference mode could not take part in a derivative later.
    with torch.inference_mode(False), torch.set_grad_enabled(gradients), TRACER:
        net = _spline_form(model, spec, spec.tensors(example), until, output, gates)
    if task is None:
        return net
    return net.with_task(*([task] if isinstance(task, Task | str) else task))


def _gates(smooth: str, carrier: Mapping[str, str] | None) -> Gates | None:
    if smooth not in ("refuse", "frozen", "tangent"):
        raise BadInput(f"smooth: expected 'refuse', 'frozen' or 'tangent', got {smooth!r}")
    if not isinstance(carrier, Mapping | None):
        raise BadInput(
            f"carrier: expected a mapping from products to the factor that carries, got {type(carrier).__name__};"
            " write e.g. {'mul': 'up'}"
        )
    if carrier and smooth != "frozen":
        raise BadInput(f"carrier: only smooth='frozen' has carriers, and smooth is {smooth!r}; leave carrier= out")
    return None if smooth == "refuse" else Gates(dict(carrier or {}), smooth == "tangent")


def _spline_form(
    model: nn.Module, spec: InputSpec, example: tuple[Tensor, ...], until: str | None, output: str, gates: Gates | None
) -> SplineNetwork:
    """The network of a module: traced, frozen operator by operator, and compared with the module."""
    _check_module(model, spec)
    tensors = tuple(item.detach() for item in example)
    # Two samples: with one, the tracer would take the batch for a fixed size.
    pair = _take(tensors, spec, 2)
    subject, traced, mapped = _trace_subject(model, spec, tensors, pair, gates is not None)
    names = name_nodes(model, traced.nodes, traced.inputs)
    targets, output_spec, endings = _targets(traced, names, until, output)
    try:
        freezer = Freezer(traced, names, spec.batch_dims, gates)
        graph = freezer.graph(_take(tensors, spec, PROBES), targets)
    except NotPiecewiseAffine:
        check_runs(subject, tensors)  # what fails has no other fault
        raise
    unknown = sorted(gates.carriers.keys() - gates.used) if gates is not None else []
    if unknown:
        met = ", ".join(map(repr, sorted(gates.met)[:8])) if gates is not None and gates.met else "none"
        raise BadInput(
            f"carrier: no product of two values that depend on the input is called {unknown[0]!r}; there are {met}"
        )
    check_state(subject, pair)
    check_single(subject.model, traced, _take(tensors, spec, 1), subject.names)
    if mapped:  # what was compared before is the graph of one sample
        check_single(subject.model, traced, pair, subject.names)
    sources = Sources.of(traced.named, freezer.recipes, graph, freezer.needed, whole=until is None)
    return SplineNetwork(graph, spec, output_spec, _places(graph, names), endings, mapped=mapped, sources=sources)


def _input_spec(example: Any, batch_dim: int | tuple[int, ...]) -> InputSpec:
    keyword = isinstance(example, dict)
    items = list(example.values()) if keyword else list(example) if isinstance(example, tuple | list) else [example]
    if not items or not all(isinstance(item, Tensor) for item in items):
        raise BadInput(f"example: expected a tensor, a tuple of tensors or a dict of tensors; {BIND}")
    if any(item.is_complex() for item in items):
        raise BadInput("example: complex inputs have no real affine map; split them into real and imaginary parts")
    if any(item.is_nested for item in items):
        raise BadInput("example: nested tensors are not supported; pad them with .to_padded_tensor(0.0)")
    if any(item.is_floating_point() and item.element_size() == 1 for item in items):
        raise BadInput("example: 8-bit floats only store numbers; convert model and example, e.g. to bfloat16")
    if not any(item.is_floating_point() for item in items):
        raise BadInput(
            "example: no input is floating point, so there is nothing to be affine in; use .float(), or for"
            " ids that a table looks up capture what follows the table, with its rows as the example:"
            " `rows = model.get_input_embeddings()(ids).detach()` and"
            " `capture(Wrapper(model), rows)`, whose forward(rows) returns `self.model(inputs_embeds=rows).logits`"
        )
    axes = (batch_dim,) * len(items) if isinstance(batch_dim, int) else tuple(batch_dim)
    if len(axes) != len(items) or any(item.dim() <= axis or axis < 0 for item, axis in zip(items, axes, strict=False)):
        raise BadInput(f"batch_dim: {batch_dim!r} is not an axis of every input; give 0, or one axis per input")
    return InputSpec(
        names=tuple(example) if keyword else ("x",) if len(items) == 1 else tuple(f"x{i}" for i in range(len(items))),
        keyword=keyword,
        units=tuple((*item.shape[:axis], *item.shape[axis + 1 :]) for item, axis in zip(items, axes, strict=True)),
        batch_dims=axes,
        dtypes=tuple(item.dtype for item in items),
        device=items[0].device,
    )


def _check_module(model: nn.Module, spec: InputSpec) -> None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise BadInput(f"model: its parameter {name!r} is not initialized; run the model once before capture")
        if tensor.device != spec.device:
            raise ShapeMismatch(
                f"example: on {spec.device}, but the model's {name!r} is on {tensor.device}; move one with .to()"
            )
        # Buffers may hold infinity, in masks and as limits.
        if isinstance(tensor, nn.Parameter) and not all_finite(tensor.detach()):
            raise BadInput(
                f"model: its parameter {name!r} holds NaN or infinity, as a training that diverged leaves it; load"
                " weights that are finite"
            )


def _trace_subject(
    model: nn.Module, spec: InputSpec, tensors: tuple[Tensor, ...], pair: tuple[Tensor, ...], smooth: bool
) -> tuple[Subject, Traced, bool]:
    """Trace a copy of a copy, with whose tensors the network goes on; the first stays as the module is now."""
    names = spec.names if spec.keyword else ()
    # The network goes on with the tensors of the copy that is traced, so they are not copied again; the module itself
    # may be trained meanwhile. It is traced only where its copy does not run, as with handles that cannot be copied.
    subject = Subject(copy_module(model, ()), True, names)
    # Numbers of another dtype are no fault of a module that converts them, so it is asked to run first.
    other = _other_dtype(model, spec)
    if other and not subject.runs(pair) and not Subject(model, False, names).runs(pair):
        raise ShapeMismatch(other)
    try:
        return subject, *_trace_or_map(copy_module(subject.model, Tensor), spec, tensors, pair, True, smooth)
    except CaptureError:
        if subject.runs(pair):
            raise
        subject = Subject(model, False, names)
        if not subject.runs(pair):
            raise
    return subject, *_trace_or_map(model, spec, tensors, pair, False, smooth)


def _trace_or_map(
    model: nn.Module, spec: InputSpec, tensors: tuple[Tensor, ...], pair: tuple[Tensor, ...], owned: bool, smooth: bool
) -> tuple[Traced, bool]:
    """Trace two samples; where that fixes their number, trace one, and map its graph over all."""
    try:
        return _trace(model, spec, pair, owned, smooth), False
    except FixedBatch as error:
        fixed = error
    except NotPiecewiseAffine:
        raise
    except CaptureError as error:
        check_other_sizes(model, spec, tensors, pair, error)
        raise
    try:
        alone = _trace(model, spec, _take(pair, spec, 1), owned, smooth, dynamic=False)
    except CaptureError:
        alone = None
    # A module whose samples meet is refused for that here, which says more than that its code fixes their number.
    axes = output_axes(model, alone, spec, tensors, fixed.where)
    if alone is None:
        raise fixed from fixed.__cause__
    try:
        mapped = trace(Mapped(alone, spec.batch_dims, axes), pair, {}, (spec.batch_dims, {}), True, smooth)
    except CaptureError:
        raise fixed from fixed.__cause__
    # The constants of the graph of one sample are buffers of the module that maps it.
    placed = {id(tensor): mapped.named[name].tensor for name, tensor in alone.constants.items() if name in mapped.named}
    named = {
        name: replace(source, tensor=placed[id(source.tensor)])
        for name, source in alone.named.items()
        if id(source.tensor) in placed
    }
    return replace(mapped, output_spec=alone.output_spec, named=named), True


def _trace(
    model: nn.Module, spec: InputSpec, tensors: tuple[Tensor, ...], owned: bool, smooth: bool, dynamic: bool = True
) -> Traced:
    """Trace a module on these inputs, with any number of samples or with theirs alone."""

    def nest(items: Sequence[Any]) -> tuple[tuple, dict[str, Any]]:
        return ((), dict(zip(spec.names, items, strict=True))) if spec.keyword else (tuple(items), {})

    return trace(model, *nest(tensors), nest(spec.batch_dims) if dynamic else None, owned, smooth)


def _other_dtype(model: nn.Module, spec: InputSpec) -> str:
    """What to say of a module that holds numbers of another dtype than the example, if it does not run either."""
    floating = next(dtype for dtype in spec.dtypes if dtype.is_floating_point)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.dtype != floating:
            return (
                f"example: dtype {floating}, but the model's {name!r} is {tensor.dtype}; convert one of them with .to()"
            )
    return ""


def _take(tensors: Sequence[Tensor], spec: InputSpec, count: int) -> tuple[Tensor, ...]:
    """So many samples of the example, its own over again where it has fewer."""
    pairs = zip(tensors, spec.batch_dims, strict=True)
    return tuple(
        item.index_select(axis, torch.arange(count, device=item.device) % item.shape[axis]) for item, axis in pairs
    )


def _targets(
    traced: Traced, names: dict[Node, Name], until: str | None, output: str
) -> tuple[list[Any], Any, tuple[Ending | None, ...]]:
    """The nodes to compute, how they are nested, and what was left out after each."""
    if until is not None:
        node = find_node(until, traced.nodes, names)
        if node is None:
            known = sorted({name.text for node, name in names.items() if node.op == "call_function"})
            raise BadInput(f"until: no operator or module is called {until!r}; there are {known}")
        return [node], tree_structure(0), ()
    targets = list(traced.outputs)
    if output == "as_is":
        return targets, traced.output_spec, ()
    if output != "pre_activation":
        outputs = output_names(traced.output_spec)
        if output not in outputs:
            there = f", or one of its outputs, {', '.join(map(repr, filter(None, outputs)))}" if any(outputs) else ""
            raise BadInput(f"output: expected 'as_is' or 'pre_activation'{there}, got {output!r}")
        return [targets[outputs.index(output)]], tree_structure({output: 0}), ()
    finals = [_final(item) for item in targets]
    if not any(finals):
        found = [names[item].text if item in names else type(item).__name__ for item in targets]
        raise BadInput(
            f"output: 'pre_activation' needs a final softmax, log-softmax, sigmoid or tanh, but the module ends in"
            f" {', '.join(map(repr, found))}; leave output= out, or name until="
        )
    before = [item if node is None else node.args[0] for item, node in zip(targets, finals, strict=True)]
    # What was left out, as functions of what they were applied to.
    ends = [node and Ending(cast(Callable, node.target), node.args[1:], dict(node.kwargs)) for node in finals]
    return before, traced.output_spec, tuple(ends)


def _final(item: Any) -> Node | None:
    """The final activation that gives an output; None for an output that ends in another operator."""
    while isinstance(item, Node) and str(item.target).split(".")[1:2] == ["clone"]:
        item = item.args[0]
    library, _, operator = str(item.target).partition(".") if isinstance(item, Node) else ("", "", "")
    return item if library == "aten" and operator.split(".")[0] in FINAL else None


def _places(graph: Any, names: dict[Node, Name]) -> dict[str, int]:
    """Operator names, and module paths by the last operator that ran inside them, to value numbers."""
    parents = {name.text: name.parents for name in names.values()}
    places: dict[str, int] = {}
    pairs = [(record.name, step.result) for step in graph.steps for record in step.records]
    for name, result in pairs:
        places.update((path, result) for path in parents[name] if path)
    # An operator's own name comes before a module's of the same path.
    return places | dict(pairs)
