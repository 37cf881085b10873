"""Any traced operator that is affine in its active inputs, differentiated by PyTorch itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph.contract import LocalMap, Operator, Sign, Tensors, Traits
from maxaffine._graph.naming import loaded_target, saved_target


@dataclass(frozen=True)
class Slot:
    """A place in an operator's arguments that input number ``position`` fills when the network runs."""

    position: int


def fill(template: Any, inputs: Sequence[Any]) -> Any:
    """Put the inputs into the slots of an argument template (nested lists and tuples)."""
    if isinstance(template, Slot):
        return inputs[template.position]
    if isinstance(template, list | tuple):
        return type(template)(fill(item, inputs) for item in template)
    return template


def as_tuple(value: Any) -> tuple:
    """One output or several, always as a tuple."""
    return tuple(value) if isinstance(value, tuple | list) else (value,)


@dataclass(frozen=True)
class Signature:
    """Shape, dtype and device of a tensor whose numbers are not needed."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Signature:
        return cls(tensor.shape, tensor.dtype, tensor.device)

    def zeros(self) -> Tensor:
        return torch.zeros(self.shape, dtype=self.dtype, device=self.device)


class FrozenFunction(LocalMap):
    """The affine map of a function that is affine in its arguments, the active inputs, jointly."""

    def __init__(self, function: Callable, signatures: Sequence[Signature], homogeneous: bool) -> None:
        self.function = function
        self.signatures = tuple(signatures)
        self.homogeneous = homogeneous  # it maps zero to zero, so that it has no offset

    @classmethod
    def of(cls, function: Callable, inputs: Sequence[Any], active: Sequence[int], homogeneous: bool) -> FrozenFunction:
        """The map of a function of a list of inputs, those that are not active held fixed."""
        held = [None if position in active else item for position, item in enumerate(inputs)]

        def of_active(*leaves: Tensor) -> Any:
            filled = list(held)
            for position, leaf in zip(active, leaves, strict=True):
                filled[position] = leaf
            return function(filled)

        return cls(of_active, [Signature.of(inputs[position]) for position in active], homogeneous)

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        if self.homogeneous:
            return as_tuple(self.function(*tangents))
        # The difference of two values, for it is affine: forward differentiation operators of a user's own library
        # lack.
        rest = self._at_zero()
        factor = _magnification(tangents, rest)
        values = as_tuple(self.function(*(factor * tangent for tangent in tangents)))
        return tuple(_less(value, offset, factor) for value, offset in zip(values, rest, strict=True))

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        # At zero as well as anywhere, for it is affine; not by torch.func.vjp, which derivatives of a user's own
        # operators lack.
        with torch.enable_grad():
            leaves = tuple(like.zeros().requires_grad_() for like in self.signatures)
            pairs = zip(as_tuple(self.function(*leaves)), cotangents, strict=False)
            # What does not depend on the leaves, as the places beside a maximum, has no derivative to take.
            used = [(value, rows) for value, rows in pairs if rows is not None and value.requires_grad]
        if not used:
            return (None,) * len(leaves)
        outputs, rows = zip(*used, strict=True)
        return pulled(outputs, leaves, rows)

    def offsets(self) -> Tensors:
        return (None,) if self.homogeneous else self._at_zero()[:1]

    def _at_zero(self) -> tuple:
        return as_tuple(self.function(*(like.zeros() for like in self.signatures)))


def pulled(outputs: Sequence[Tensor], leaves: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensors:
    """Rows of cotangents (R, *output) by derivative of the leaves."""
    with warnings.catch_warnings():
        # an operator without a batching rule is only slower
        warnings.filterwarnings("ignore", message="There is a performance drop")
        return torch.autograd.grad(outputs, leaves, rows, is_grads_batched=True, allow_unused=True)


def _magnification(tangents: Sequence[Tensor], offsets: Sequence[Tensor]) -> float:
    """A power of two that makes the tangents as large as the offsets, beside which they would be rounded off."""
    # A power of two multiplies and divides without rounding.
    size = max(float(tangent.abs().max()) if tangent.numel() else 0.0 for tangent in tangents)
    finite = [offset[offset.isfinite()].abs() for offset in offsets if offset.is_floating_point()]
    largest = max((float(offset.max()) for offset in finite if offset.numel()), default=0.0)
    if not 0 < size < largest:
        return 1.0
    # Not beyond half the exponents there are: finfo.min, given to a maximum, is not a scale to compute at.
    most = log2(min(torch.finfo(tangent.dtype).max for tangent in tangents)) / 2
    return 2.0 ** min(max(0, ceil(min(log2(largest), most) - log2(size))), int(most))


def _less(value: Tensor, offset: Tensor, factor: float) -> Tensor | None:
    """A v = (A (f v) + b - b) / f; a constant of infinity (padding before a maximum) has no slope."""
    if not value.is_floating_point():
        return None
    return torch.where(offset.isinf(), torch.zeros_like(offset), value - offset) / factor


@dataclass(frozen=True, eq=False)
class Affine(Operator):
    """A traced operator that is affine in its active inputs, all other arguments held fixed."""

    kind: str  # its name in records
    target: Callable  # the traced operator, e.g. torch.ops.aten.cat.default
    args: tuple  # its arguments, with a Slot for each input
    kwargs: dict[str, Any]
    active: tuple[int, ...]  # positions of the dependent inputs
    homogeneous: bool = False  # zero inputs give zero outputs
    sign: tuple[Sign, ...] = ()  # of the slopes with respect to each active input
    continuous: bool = True  # not if it takes a value that jumps between regions, which also undoes convexity

    @property
    def traits(self) -> Traits:
        return Traits(self.kind, self.active, convex=self.continuous, continuous=self.continuous)

    def __call__(self, *inputs: Any) -> Any:
        return self.target(*fill(self.args, inputs), **{k: fill(v, inputs) for k, v in self.kwargs.items()})

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "target": saved_target(self.target)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, target=loaded_target(state["target"]))

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return FrozenFunction.of(lambda filled: self(*filled), inputs, self.active, self.homogeneous)

    def signs(self) -> tuple[Sign, ...]:
        return self.sign or (Sign.MIXED,) * len(self.active)


@dataclass(frozen=True, eq=False)
class Traced(Operator):
    """An operator with an own affine map that is still run as it was traced."""

    traced: Affine

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, self.traced.active)

    def __call__(self, *inputs: Any) -> Any:
        return self.traced(*inputs)

    def plain(self) -> Operator:
        return self.traced


@dataclass(frozen=True, eq=False)
class TracedAffine(Traced):
    """An affine operator with an own map, otherwise what it was traced as."""

    @property
    def traits(self) -> Traits:
        return self.traced.traits

    def signs(self) -> tuple[Sign, ...]:
        return self.traced.signs()


@dataclass(frozen=True, eq=False)
class Held(Affine):
    """A traced operator whose value does not vary with the input inside a region: arithmetic on shapes and codes."""

    active: tuple[int, ...] = ()
