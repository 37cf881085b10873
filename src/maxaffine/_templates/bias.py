"""Networks without offsets: f(x) = A[x] x."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import Dependence, Graph, Linearization, Step
from maxaffine._network import Network, largest
from maxaffine._templates.layer import Layer, find_layer
from maxaffine._templates.result import double


@dataclass(frozen=True)
class BiasReport:
    """Whether a network has offsets."""

    # Whether it is proved that no operator has an offset on any of its pieces, so that f(x) = A[x] x at every x
    # (sufficient, not necessary).
    everywhere: bool
    here: bool  # whether b[x] = 0 at every given input, so that f(x) = A[x] x there; rounding aside
    operators: tuple[str, ...]  # the operators whose own offset is not zero at some given input
    largest: float  # the largest entry of b[x] in absolute value
    samples: int  # number of inputs looked at

    def __str__(self) -> str:
        if self.everywhere:
            return "no operator has an offset on any piece: f(x) = A[x] x at every x"
        if not self.here:
            return (
                f"{len(self.operators)} operators have an offset ({', '.join(self.operators[:6])}"
                f"{', ...' if len(self.operators) > 6 else ''}): b[x] is as large as {self.largest:.3g}"
            )
        why = f"the offsets of {', '.join(self.operators)} cancel" if self.operators else "no operator adds an offset"
        return f"{why} at these {self.samples} inputs, where f(x) = A[x] x; that it is so elsewhere is not proved"


def bias_free(net: Network, x: Any, until: str | None = None, *, output: int | str | None = None) -> BiasReport:
    """Say whether a network has no offsets, so that f(x) = A[x] x and its templates alone make its logits.

    Args:
        net: The captured network.
        x: The inputs to look at, as at capture.
        until: Operator or module to stop after; the network's output by default.
        output: Which output, by number or name, for a network with several.

    Returns:
        The report: proved everywhere, true at these inputs, and which operators stand in the way.

    Raises:
        BadInput: When there is no such layer.

    >>> import torch, maxaffine as ma
    >>> net = ma.capture(torch.nn.Linear(2, 3, bias=False).eval(), torch.zeros(1, 2))
    >>> print(bias_free(net, torch.ones(4, 2)))
    no operator has an offset on any piece: f(x) = A[x] x at every x

    Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
    section 5.
    """
    layer = find_layer(net, until, output)
    tensors = net.inputs.tensors(x)
    graph = layer.graph
    local = Linearization(graph, tensors)
    names: list[str] = []
    for step, found in local.locals:
        for record, offset in zip(step.records, found.offsets(), strict=False):
            if offset is not None and bool((offset != 0).any()):
                names.append(record.name)
    offsets = double(layer.affine_map(x).offsets)
    largest = float(offsets.abs().max())
    # No offset at these inputs, and none on another piece of any operator: then none anywhere. Offsets that are there
    # may still cancel at the output, which is looked at only here.
    return BiasReport(
        everywhere=not names and all(_never(step, graph) for step in graph.steps if step.active),
        here=not names or isfinite(largest) and largest <= _rounding(layer, x, offsets),
        operators=tuple(names),
        largest=largest,
        samples=len(offsets),
    )


def _never(step: Step, graph: Graph) -> bool:
    """Whether a step that has no offset at some inputs is known to have none at any."""
    traits = step.operator.traits
    if traits.pieces > 1:
        return traits.homogeneous
    if traits.held or step.held:
        return False
    # What is affine has one offset, unless it takes a value that changes from region to region.
    return not any(graph.values[number].dependence is Dependence.REGION for number in step.inputs)


def _rounding(layer: Layer, x: Any, offsets: Tensor) -> float:
    """How large the sum of offsets that cancel may be, for rounding."""
    parts: list[Tensor] = [double(part).abs() for part in layer.affine_map(x).offset_contributions().values()]
    flat = offsets.abs().reshape(len(offsets), -1)
    terms = float(layer.terms(x, torch.arange(layer.count), largest(flat)).max())
    return layer.rounding * max(terms, float(sum(float(part.max()) for part in parts)))
