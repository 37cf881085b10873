"""Smooth operators at an input: affine in a carrier with their gate held there, or by their tangent.

A smooth operator multiplies a carrier by a gate that depends on the input: SiLU is u times sigmoid(u). Hold the gate at
the value it has at x, and what is left is affine in the carrier and gives f(x) itself, to rounding. That map is exact
at x and nowhere else: there are no regions, and it is not the Jacobian, which also moves the gate. The tangent is: A is
the Jacobian there and b = f - J x.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from maxaffine._graph.contract import LocalMap, Operator, Tensors, Traits
from maxaffine._graph.frozen import Affine, FrozenFunction, Signature, Traced, TracedAffine, as_tuple, fill, pulled
from maxaffine._graph.graph import CARRYING, Dependence, Graph
from maxaffine._graph.linear import Scaling
from maxaffine._graph.overflow import all_finite
from maxaffine.errors import BadInput

TANGENT = "J(u*) u + f(u*) - J(u*) u*"


@dataclass(frozen=True, eq=False)
class Gated(Traced):
    """An operator that works entry by entry, its gate held at the input: y = scale * u + offset.

    Attributes:
        gate: Maps the operator's own arguments, at the input, to scale and offset (None for zero).
        formula: Both in words, u* the carrier's value at the input.
        pieces: 2 for a unit that opens and closes, whose hard code is the sign of what it gates; 1 for a plain curve.
    """

    gate: Callable[..., tuple[Tensor, Tensor | None]]
    formula: str
    pieces: int = 1

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, self.traced.active, self.pieces, convex=False, held=self.formula)

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor | None:
        return inputs[self.traced.active[0]] > 0 if self.pieces > 1 else None

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        (carrier,) = self.traced.active
        scale, offset = self.gate(*fill(self.traced.args, inputs), **fill(self.traced.kwargs, inputs))
        finite = None
        if not (all_finite(inputs[carrier]) and all_finite(value)):
            # What is infinite, as a mask makes it, does not move: its slope is zero, its value an offset.
            finite = inputs[carrier].isfinite() & value.isfinite()
            scale = torch.where(finite, scale, 0)
            offset = torch.where(finite, 0 if offset is None else offset, value)
        check_slope(self.traced.kind, scale)
        if finite is None and scale.shape == inputs[carrier].shape == value.shape:
            return Scaling(scale, offset)

        def scaled(u: Tensor) -> Tensor:
            u = u if finite is None else torch.where(finite, u, 0)
            return scale * u if offset is None else scale * u + offset

        return FrozenFunction(scaled, [Signature.of(inputs[carrier])], offset is None)


@dataclass(frozen=True, eq=False)
class GatedMap(Traced):
    """An operator that mixes entries, its gate held at the input: y = G u + b.

    Attributes:
        gate: Maps the operator's own arguments, at the input, and its value there to the function u -> G u + b, or to
            its local map.
        formula: The function in words, u* the carrier's value at the input.
        homogeneous: Whether b is zero.
    """

    gate: Callable[..., Callable[[Tensor], Tensor] | LocalMap]
    formula: str
    homogeneous: bool = False

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, self.traced.active, convex=False, held=self.formula)

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        (carrier,) = self.traced.active
        arguments, named = fill(self.traced.args, inputs), fill(self.traced.kwargs, inputs)
        function = self.gate(as_tuple(value)[0], *arguments, **named)
        return (
            function
            if isinstance(function, LocalMap)
            else FrozenFunction(function, [Signature.of(inputs[carrier])], self.homogeneous)
        )


class Normalization(LocalMap):
    """y = gamma s (u - mean u) + beta, the mean over some axes and s held; without the mean for a norm about zero.

    Its transpose is s (I - 1 1^T/d) (gamma u), for s is one number along the axes.

    Args:
        value: What the operator gives.
        scale: The reciprocal root s.
        axes: Negative numbers of the axes that the mean is over, of ``parts``.
        gamma: What multiplies afterwards, broadcast against the value; None for one.
        beta: What is added then; None for zero.
        parts: The shape in which groups have axes of their own; the value's by default.
        centered: Whether the mean is subtracted.
    """

    fresh = True

    def __init__(
        self,
        value: Tensor,
        scale: Tensor,
        axes: tuple[int, ...],
        gamma: Tensor | None,
        beta: Tensor | None,
        parts: Sequence[int] | None = None,
        centered: bool = True,
    ) -> None:
        self.shape, self.dtype = value.shape, value.dtype
        self.scale, self.axes, self.gamma, self.beta = scale, axes, gamma, beta
        self.parts = tuple(value.shape if parts is None else parts)
        self.centered = centered

    def _normalize(self, moved: Tensor) -> Tensor:
        """S (u - mean u), of rows too, in place of a tensor that is nobody else's."""
        lead = moved.shape[: moved.dim() - len(self.shape)]
        moved = moved.reshape(*lead, *self.parts)
        if self.centered:
            moved -= moved.mean(self.axes, keepdim=True)
        return moved.mul_(self.scale).reshape(*lead, *self.shape)

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        moved = self._normalize(tangents[0].to(self.scale.dtype, copy=True))
        return ((moved if self.gamma is None else moved * self.gamma).to(self.dtype),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        rows = cotangents[0].to(self.scale.dtype, copy=self.gamma is None)
        return (self._normalize(rows if self.gamma is None else rows * self.gamma).to(self.dtype),)

    def offsets(self) -> Tensors:
        return (None if self.beta is None else self.beta.to(self.dtype),)


@dataclass(frozen=True, eq=False)
class Attention(TracedAffine):
    """Scaled dot-product attention with its weights held: means of the values."""

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given: dict[str, Any] = dict(zip(names, fill(self.traced.args, inputs), strict=False))
        given |= {name: fill(item, inputs) for name, item in self.traced.kwargs.items()}
        query, key, carried, mask = given["query"], given["key"], given["value"], given.get("attn_mask")
        alike = query.shape[:-2] == key.shape[:-2] == carried.shape[:-2] and query.dtype == carried.dtype
        entries = query.shape[:-1].numel() * key.shape[-2]
        if not alike or entries > MOST_WEIGHTS or query.dim() < 3 or query.element_size() < 4:
            return self.traced.local(inputs, value)
        scale = given.get("scale")
        scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
        if given.get("is_causal"):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype is torch.bool else scores + mask
        weights = torch.softmax(scores, -1)
        return WeightedMeans(torch.where(scores.amax(-1, keepdim=True).isinf(), 0, weights))


MOST_WEIGHTS = 2**26  # of an attention, beyond which they are not written out


class WeightedMeans(LocalMap):
    """y = P u, one matrix P for each sample and head."""

    fresh = True

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (self.weights @ tangents[0],)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        # All rows in one product with P: as columns.
        rows = cotangents[0]
        columns = rows.movedim(0, -2).flatten(-2)
        return ((self.weights.mT @ columns).unflatten(-1, (len(rows), -1)).movedim(-2, 0),)


@dataclass(frozen=True, eq=False)
class Tangent(Traced):
    """A smooth operator by its tangent at the input: A = J, b = f - J u.

    Attributes:
        pieces: As of :class:`Gated`.
    """

    pieces: int = 1

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, self.traced.active, self.pieces, convex=False, held=TANGENT)

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor | None:
        return inputs[self.traced.active[0]] > 0 if self.pieces > 1 else None

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return TangentMap(self.traced, inputs, as_tuple(value)[0])


def check_slope(kind: str, slopes: Tensor) -> Tensor:
    """The slopes, or what they give along finite numbers, unless they are infinite."""
    if not all_finite(slopes):
        raise BadInput(
            f"x: {kind} has no finite slope at this input: it is a root of zero, or overflows in {slopes.dtype};"
            " add a small number inside it, scale the data, or capture the model in a wider type"
        )
    return slopes


@dataclass(frozen=True, eq=False)
class Unheld(Operator):
    """An operator in which all that depends on the input moves, by its tangent: what its gates were is forgotten."""

    operator: Operator
    active: tuple[int, ...]

    @property
    def kind(self) -> str:
        return self.operator.traits.kind

    @property
    def traits(self) -> Traits:
        return Traits(self.kind, self.active, convex=False, held=TANGENT)

    def __call__(self, *inputs: Any) -> Any:
        return self.operator(*inputs)

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return TangentMap(self, inputs, as_tuple(value)[0])


def without_gates(graph: Graph) -> Graph:
    """The same graph with nothing held, for its Jacobian: the rows A^T u of its map are those of J."""
    # What was held moves too, and so does what led to gates alone and may have no affine map. What bends by pieces, or
    # is a tangent already, keeps its own local map, which says what happens at a kink.
    moving = {
        number
        for number, value in graph.values.items()
        if value.dependence in CARRYING and value.dtype is not None and value.dtype.is_floating_point
    }
    values = {n: replace(v, dependence=Dependence.AFFINE) if n in moving else v for n, v in graph.values.items()}
    steps = []
    for step in graph.steps:
        if moving.isdisjoint(step.outputs):  # codes, sizes, constants
            steps.append(step)
            continue
        active = tuple(place for place, number in enumerate(step.inputs) if number in moving)
        held = step.held or step.operator.traits.held not in ("", TANGENT) or set(active) != set(step.active)
        operator = Unheld(step.operator, active) if held and active else step.operator
        steps.append(replace(step, operator=operator, active=operator.traits.active, held=(), refusal=()))
    return replace(graph, values=values, steps=tuple(steps))


class TangentMap(LocalMap):
    """The tangent of an operator, by PyTorch's own derivative; pushed, and with its offset, of its first output.

    What is infinite, as a mask makes it, does not move: its slopes are zero.
    """

    def __init__(self, traced: Affine | Unheld, inputs: Sequence[Any], value: Tensor) -> None:
        self.traced = traced
        self.inputs = list(inputs)
        self.active = traced.active
        self.value = value

    def _graph(self) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
        """The operator's active inputs as leaves, and its outputs as functions of them."""
        filled = list(self.inputs)
        for position in self.active:
            filled[position] = filled[position].detach().requires_grad_()
        return tuple(filled[position] for position in self.active), as_tuple(self.traced(*filled))

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        # J v is the derivative of u -> J^T u, which is linear, along v: no forward derivative need exist.
        with torch.enable_grad():
            with sdpa_kernel(SDPBackend.MATH):  # the only attention that has a second derivative
                leaves, (value, *_) = self._graph()
            dual = torch.ones_like(value, requires_grad=True)  # at zero PyTorch has no derivative of some
            transposed = torch.autograd.grad(value, leaves, dual, create_graph=True)
            moved = tuple(_where_finite(leaf, t) for leaf, t in zip(leaves, tangents, strict=True))
            along = _where_finite(value, torch.autograd.grad(transposed, dual, moved)[0].detach())
        return (check_slope(self.traced.kind, along),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        with torch.enable_grad():
            leaves, values = self._graph()
        asked = [
            (value, _where_finite(value, rows))
            for value, rows in zip(values, cotangents, strict=False)
            if rows is not None and value.requires_grad
        ]
        if not asked:
            return (None,) * len(leaves)
        outputs, rows = zip(*asked, strict=True)
        pairs = zip(leaves, pulled(outputs, leaves, rows), strict=True)
        return tuple(
            row if row is None else check_slope(self.traced.kind, _where_finite(leaf, row)) for leaf, row in pairs
        )

    def offsets(self) -> Tensors:
        (through,) = self.mv([self.inputs[position].detach() for position in self.active])
        return (None if through is None else self.value - through,)


def _where_finite(value: Tensor, moved: Tensor) -> Tensor:
    """Zero where the value is infinite."""
    return moved if all_finite(value) else torch.where(value.isfinite(), moved, 0)
