"""The layer whose units are looked at: the network's output, or what an operator or module inside it gives."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine._graph import Dependence, Graph, Value
from maxaffine._maps import AffineMap
from maxaffine._network import Network, Task, origin, require_classes, rounding_bound, terms
from maxaffine._templates.result import double
from maxaffine.errors import BadInput

SHOWN = 12


@dataclass(frozen=True, eq=False)
class Layer:
    """One output of a network, or of its part up to some operator."""

    net: Network  # the whole network
    until: str | None  # the operator or module; None for the network's output
    output: int  # which output of the network
    units: tuple[int, ...]  # shape of one sample's output

    @property
    def count(self) -> int:
        """Number of units."""
        return prod(self.units)

    @property
    def words(self) -> str:
        """What to call it in a sentence."""
        if self.until is not None:
            return repr(self.until)
        return f"output {self.output}" if len(self.net.graph.outputs) > 1 else "the output"

    @property
    def task(self) -> Task:
        """What the units answer."""
        return self.net.task(self.output) if self.until is None else self.net.task_at(self.net.places[self.until])

    def unit_name(self, unit: int) -> str:
        """What to call a unit that nobody named: a class only where there are classes."""
        if not self.units:
            return "the output" if self.until is None else "unit"
        place = ", ".join(str(int(number)) for number in np.unravel_index(unit, self.units))
        if len(self.units) > 1:
            return f"unit ({place})"
        if self.until is not None:
            return f"unit {place}"
        if self.task is Task.CLASSES and self.count > 1:
            return f"class {place}"
        return "the output" if self.count == 1 else f"value {place}"

    @property
    def rounding(self) -> float:
        """What rounding explains of a relative residual."""
        return rounding_bound(self._part)

    @property
    def graph(self) -> Graph:
        """The graph that gives these units and no other."""
        part = self._part.graph
        return part.part([part.outputs[self.output]])

    def terms(self, x: Any, units: Tensor, u: Tensor, offsets_alone: bool = True) -> Tensor:
        """The size of the terms of <u, b[x]>, or of <u, value>, for weights (N, K) of some units: (N,), all finite."""
        inputs = self.net.inputs.tensors(x)
        weights = u.new_zeros(len(u), self.count).index_copy_(1, units.to(u.device), u).reshape(len(u), *self.units)
        number = self._part.graph.outputs[self.output]
        # At the origin, on the map of x, nothing but offsets is on the way.
        found = terms(self.net, number, inputs, origin(inputs) if offsets_alone else inputs, weights, offset=True)
        return double(found).nan_to_num(0.0, 0.0)

    def values(self, x: Any) -> Tensor:
        """The network's own values, (N, units), run without any affine map."""
        return _value(self._part.graph, self.output).to_rows(tree_leaves(self._part(x))[self.output])

    def affine_map(self, x: Any, units: Tensor | None = None) -> AffineMap:
        """The map of the wanted units."""
        output = None if self.until is not None else self.output
        return self.net.affine_map(x, outputs=units, until=self.until, output=output)

    def inputs(self, x: Any) -> tuple[Tensor, ...]:
        """The floating-point inputs, the samples in front."""
        return self.net.inputs.fronts(self.net.inputs.tensors(x))

    @cached_property
    def _part(self) -> Network:
        return self.net if self.until is None else self.net.part(until=self.until)


def find_layer(net: Network, until: str | None, output: int | str | None) -> Layer:
    """Find the layer that some arguments name: an operator or module, or an output of the network."""
    if not isinstance(net, Network):
        raise BadInput(
            f"net: expected a captured network, got {type(net).__name__}; capture it: maxaffine.capture(model, x)"
        )
    graph = net.graph if until is None else net.part(until=until).graph
    if until is not None and output is not None:
        raise BadInput("output: it chooses among the network's own outputs; leave it out where until= is given")
    try:
        place = 0 if until is not None else net.output_place(output)
    except BadInput as error:
        raise BadInput(f"{error}. {candidates(net)}") from None
    value = _value(graph, place)
    if value.batch is None or value.dependence is not Dependence.AFFINE:
        name = f"until: {until!r}" if until is not None else f"output: output {place}"
        raise BadInput(f"{name} is not a piecewise-affine function of the input; choose another. {candidates(net)}")
    return Layer(net, until, place, value.units)


def find_classifier(net: Network, until: str | None, output: int | str | None) -> Layer:
    """Find the layer that gives one logit per class, its units (C,) with C >= 2."""
    layer = find_layer(net, until, output)
    if len(layer.units) != 1:
        raise BadInput(
            f"{'output' if until is None else 'until'}: {layer.words} gives {layer.units} per input, not (C,) logits,"
            f" one per class; choose another. {candidates(net)}"
        )
    if until is None:
        # Who asks has labels, so that outputs of which nobody said what they are may be their classes. A layer that is
        # named is taken for what the user says it is.
        task = net.task(layer.output, labels=layer.count)
        require_classes(task, "memorization", f"templates(net, x) says what values are made of. {candidates(net)}")
    if layer.count < 2:
        raise BadInput(
            f"{'output' if until is None else 'until'}: {layer.words} is a single logit, and memorization compares the"
            f" templates of two classes or more; choose another. {candidates(net)}"
        )
    return layer


def candidates(net: Network) -> str:
    """The layers that give one number per class, and how to name them."""
    values = [_value(net.graph, place) for place in range(len(net.graph.outputs))]
    outputs = [
        f"output={place} of shape {value.units}"
        for place, value in enumerate(values)
        if value.dependence is Dependence.AFFINE and value.batch is not None
    ]
    rows = [
        f"until={record.name!r} of {record.units[0]} units"
        for record in net.operators
        if len(record.units) == 1 and record.units[0] > 1
    ]
    more = f" and {len(rows) - SHOWN} more before them" if len(rows) > SHOWN else ""
    inside = f"; rows of units inside: {', '.join(rows[-SHOWN:])}{more}" if rows else ""
    return f"There are: {', '.join(outputs) or 'no output that depends on the input'}{inside}"


def _value(graph: Graph, place: int) -> Value:
    return graph.values[graph.outputs[place]]
