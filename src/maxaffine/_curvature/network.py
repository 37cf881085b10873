"""A captured network as an nn.Module with live parameters, in which some operators have soft codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_structure, tree_unflatten

from maxaffine._capture import SplineNetwork
from maxaffine._curvature.code import SoftCode
from maxaffine._drawing import Tabular
from maxaffine._graph import as_tuple, lifted
from maxaffine._network import Sources
from maxaffine.errors import BadInput, ShapeMismatch

CODES, CONSTANTS, DEVICE = "soft_codes", "soft_constants", "device of the inputs"


@dataclass(frozen=True)
class LiveStep:
    """One call of a softened network."""

    call: Callable
    inputs: tuple[int | str, ...]  # numbers of values, names of parameters and buffers
    outputs: tuple[int | None, ...]
    done: tuple[int, ...]  # values that nothing after it needs


class SoftNetwork(Tabular, nn.Module):
    """A network with soft codes: an ordinary module; made by :func:`maxaffine.curvature.soften`.

    It runs as the captured module does in evaluation mode, whatever its own mode: dropout is off, and batch-norm keeps
    its statistics. Parameters and buffers have the names that they have in that module, so weights go both ways:
    ``soft.load_state_dict(model.state_dict())`` and back; what is trained of the curvature follows as ``soft_codes``.

    Attributes:
        soft_codes: The softened operators, in running order; ``soft_codes.parameters()`` are what curvature tuning
            trains.
    """

    soft_codes: nn.ModuleList

    def __init__(self, net: SplineNetwork, codes: Mapping[str, SoftCode], sources: Sources) -> None:
        super().__init__()
        self._spec, self._output_spec = net.inputs, net.output_spec
        self._graph_inputs, self._graph_outputs = net.graph.inputs, net.graph.outputs
        for name in sources.named:
            if name.split(".")[0] in (CODES, CONSTANTS):
                raise BadInput(f"model: its part {name!r} has the name of what is added; rename it")
        live = _Live(self, sources)
        steps = [
            (call, live.places(constants), live.made(recipe.outputs))
            for recipe in sources.recipes
            for call, constants in [lifted(recipe.operator, 0)]
        ]
        for step in net.graph.steps:
            code = codes.get(step.records[0].name) if step.records else None
            if code is None or code.identity:
                call, constants = lifted(step.operator, len(step.inputs))
                outputs = step.outputs
            else:
                call, constants, outputs = code, code.constants, step.outputs[:1]
            steps.append((call, (*step.inputs, *live.places(constants)), outputs))
        self._steps = _with_ends(steps, net.graph.outputs)
        self.soft_codes = nn.ModuleList(codes.values())

    @property
    def betas(self) -> dict[str, float | Tensor]:
        """Beta of every softened operator by its name: a number, or a tensor where it is trained or one per channel."""
        return {code.record.name: code.beta for code in self._codes()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output, nested as the captured module returns it; takes what that module takes.

        Args:
            args: The inputs.
            kwargs: Or the inputs by name, where the module was captured with a dict.

        Returns:
            The output.

        Raises:
            BadInput: For another number of inputs, or other names.
            ShapeMismatch: For inputs of another shape than at capture.
        """
        inputs = self._inputs(args, kwargs)
        values: dict[int | str, Any] = dict(zip(self._graph_inputs, inputs, strict=True))
        values.update(self.named_parameters(remove_duplicate=False))
        values.update(self.named_buffers(remove_duplicate=False))
        values[DEVICE] = inputs[0].device
        for step in self._steps:
            value = step.call(*(values[place] for place in step.inputs))
            for number, item in zip(step.outputs, as_tuple(value), strict=False):
                if number is not None:
                    values[number] = item
            for number in step.done:
                values.pop(number, None)
        return tree_unflatten([values[number] for number in self._graph_outputs], self._output_spec)

    def _inputs(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
        spec = self._spec
        if spec.keyword and kwargs.keys() != set(spec.names) or not spec.keyword and kwargs:
            raise BadInput(f"inputs: the network was captured with {_words(spec)}, got the names {sorted(kwargs)}")
        items = tuple(kwargs[name] for name in spec.names) if spec.keyword else args
        if len(items) != len(spec.names) or not all(isinstance(item, Tensor) for item in items):
            kinds = [type(item).__name__ for item in items]
            raise BadInput(f"inputs: the network was captured with {_words(spec)}, got {kinds}")
        for name, item, units, axis in zip(spec.names, items, spec.units, spec.batch_dims, strict=True):
            if item.dim() != len(units) + 1 or (*item.shape[:axis], *item.shape[axis + 1 :]) != units:
                raise ShapeMismatch(
                    f"{name}: shape {tuple(item.shape)}, but the network was captured with samples of shape {units}"
                    f" along axis {axis}; reshape it, or capture again with such an example"
                )
        return items

    def _codes(self) -> list[SoftCode]:
        return [code for code in self.soft_codes if isinstance(code, SoftCode)]

    def _title(self) -> str:
        codes = self._codes()
        forms = ", ".join(sorted({code.form for code in codes}))
        numbers = sum(item.numel() for item in self.parameters())
        return f"SoftNetwork: {len(codes)} operators with soft codes ({forms} form), {numbers:,} parameters"

    def _table(self) -> list[tuple[str, ...]]:
        rows = [(code.record.name, code.record.kind, code.described()) for code in self._codes()]
        return [("operator", "kind", "beta"), *rows]

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: how outputs are nested by an example, as PyTorch's specification cannot be."""
        nested = tree_unflatten(list(range(len(self._graph_outputs))), self._output_spec)
        return {**self.__dict__, "_output_spec": nested}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make it again of what was pickled."""
        super().__setstate__({**state, "_output_spec": tree_structure(state["_output_spec"])})


def _words(spec: Any) -> str:
    return f"{'inputs named' if spec.keyword else 'the inputs'} {', '.join(spec.names)}"


class _Live:
    """Gives every constant of a graph its place: in the module by its name, or as the result of a recipe."""

    def __init__(self, module: nn.Module, sources: Sources) -> None:
        self.module = module
        self.known: dict[int, int | str] = {}
        self.alive: list[Any] = []  # so that no address is used twice
        self.constants = nn.Module()
        module.add_module(CONSTANTS, self.constants)
        copies: dict[int, Tensor] = {}
        for name, source in sources.named.items():
            tensor = source.tensor
            if id(tensor) not in copies:
                fresh = tensor.detach().clone()
                copies[id(tensor)] = nn.Parameter(fresh, source.trained) if source.parameter else fresh
                self.known[id(tensor)] = name
            _place(module, name, copies[id(tensor)], source.persistent)

    def places(self, constants: Sequence[Any]) -> tuple[int | str, ...]:
        """Where the constants of a call are."""
        return tuple(DEVICE if isinstance(item, torch.device) else self._place_of(item) for item in constants)

    def _place_of(self, tensor: Tensor) -> int | str:
        if id(tensor) not in self.known:
            name = f"c{len(self.constants._buffers)}"
            self.constants.register_buffer(name, tensor.detach().clone(), persistent=False)
            self.known[id(tensor)] = f"{CONSTANTS}.{name}"
            self.alive.append(tensor)
        return self.known[id(tensor)]

    def made(self, outputs: Sequence[Tensor | None]) -> tuple[int | None, ...]:
        """Numbers, none of the graph's, of what a recipe makes."""
        numbers: list[int | None] = []
        for tensor in outputs:
            if tensor is None:
                numbers.append(None)
                continue
            self.alive.append(tensor)
            self.known[id(tensor)] = -len(self.alive)
            numbers.append(-len(self.alive))
        return tuple(numbers)


def _place(module: nn.Module, name: str, tensor: Tensor, persistent: bool) -> None:
    """Register a tensor under a dotted name, whatever attributes the modules on the way have."""
    *path, last = name.split(".")
    for part in path:
        if part not in module._modules:
            module._modules[part] = nn.Module()
        module = module._modules[part] or module
    if isinstance(tensor, nn.Parameter):
        module._parameters[last] = tensor
    else:
        module._buffers[last] = tensor
        if not persistent:
            module._non_persistent_buffers_set.add(last)


def _with_ends(
    steps: Sequence[tuple[Callable, tuple[int | str, ...], tuple[int | None, ...]]], outputs: Sequence[int]
) -> tuple[LiveStep, ...]:
    """The steps, each with the values that are not needed after it."""
    later, found = set(outputs), []
    for call, inputs, made in reversed(steps):
        used = {place for place in (*inputs, *made) if isinstance(place, int)}
        found.append(LiveStep(call, inputs, made, tuple(used - later)))
        later |= used
    return tuple(reversed(found))
