"""Piecewise-affine operators that act entry by entry: a scalar function with knots, and a choice between tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxaffine.graph.contract import LocalMap, Operator, Sign, Tensors
from maxaffine.graph.frozen import Affine, FrozenFunction, Signature, as_tuple


@dataclass(frozen=True, eq=False)
class ScalarSpline:
    """A piecewise-affine function of one number: y = slopes[q] x + offsets[q], q = number of knots below x.

    Attributes:
        knots: The R - 1 places where the piece changes, increasing.
        slopes: R slopes; a tensor that broadcasts against x for parametric ones (PReLU).
        offsets: R offsets.
        reached: Per knot, whether x equal to the knot already belongs to the piece above it. By default it
            belongs to the piece below: the lowest piece wins a tie.
    """

    knots: tuple[float, ...]
    slopes: tuple[float | Tensor, ...]
    offsets: tuple[float, ...]
    reached: tuple[bool, ...] = ()

    def codes(self, x: Tensor) -> Tensor:
        """The piece of every entry: bool for two pieces, uint8 for more."""
        reached = self.reached or (False,) * len(self.knots)
        above = [x >= knot if at else x > knot for knot, at in zip(self.knots, reached, strict=True)]
        if len(above) == 1:
            return above[0]
        return torch.stack([item.to(torch.uint8) for item in above]).sum(0, dtype=torch.uint8)

    def scale(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """slopes[codes]; a mask where the slopes are zeros and ones."""
        if all(not isinstance(slope, Tensor) and slope in (0.0, 1.0) for slope in self.slopes):
            if codes.dtype == torch.bool and self.slopes[0] != self.slopes[1]:
                return codes if self.slopes[1] else codes.logical_not()
            ones = [codes == piece for piece, slope in enumerate(self.slopes) if slope == 1.0]
            return torch.stack(ones).any(0) if ones else torch.zeros_like(codes, dtype=torch.bool)
        return self._pick(self.slopes, codes, dtype)

    def shift(self, codes: Tensor, dtype: torch.dtype) -> Tensor | None:
        """offsets[codes], or None where every offset is zero."""
        if not any(self.offsets):
            return None
        return self._pick(self.offsets, codes, dtype)

    @staticmethod
    def _pick(table: Sequence[float | Tensor], codes: Tensor, dtype: torch.dtype) -> Tensor:
        picked = torch.zeros(codes.shape, dtype=dtype, device=codes.device)
        for piece, entry in enumerate(table):
            fill = torch.as_tensor(entry, dtype=dtype, device=codes.device)
            picked = torch.where(codes == piece, fill, picked)
        return picked

    @property
    def continuous(self) -> bool:
        """Whether neighbouring pieces meet at every knot."""
        pieces = list(zip(self.slopes, self.offsets, strict=True))
        meets = []
        for knot, (s0, b0), (s1, b1) in zip(self.knots, pieces, pieces[1:], strict=False):
            gap = torch.as_tensor((s1 - s0) * knot + (b1 - b0), dtype=torch.float64)
            meets.append(bool((gap.abs() <= 1e-12 * max(1.0, abs(knot))).all()))
        return all(meets)

    @property
    def convex(self) -> bool:
        """Whether the function is convex: continuous with increasing slopes."""
        rising = [bool(torch.as_tensor(s1 >= s0).all()) for s0, s1 in zip(self.slopes, self.slopes[1:], strict=False)]
        return self.continuous and all(rising)

    @property
    def sign(self) -> Sign:
        """The sign shared by all slopes."""
        slopes = [torch.as_tensor(slope) for slope in self.slopes]
        if all(bool((slope >= 0).all()) for slope in slopes):
            return Sign.NONNEGATIVE
        return Sign.NONPOSITIVE if all(bool((slope <= 0).all()) for slope in slopes) else Sign.MIXED


@dataclass(frozen=True, eq=False)
class Elementwise(Operator):
    """A scalar piecewise-affine function applied to every entry."""

    traced: Affine
    spline: ScalarSpline

    @property
    def kind(self) -> str:
        return self.traced.kind

    @property
    def pieces(self) -> int:
        return len(self.spline.slopes)

    @property
    def convex(self) -> bool:
        return self.spline.convex

    @property
    def continuous(self) -> bool:
        return self.spline.continuous

    def __call__(self, x: Tensor) -> Tensor:
        return self.traced(x)

    def codes(self, inputs: Sequence[Tensor], value) -> Tensor:
        return self.spline.codes(inputs[0])

    def local(self, inputs: Sequence[Tensor], value) -> LocalMap:
        return ElementwiseMap(self.spline, self.spline.codes(inputs[0]), inputs[0].dtype)

    def signs(self) -> tuple[Sign, ...]:
        return (self.spline.sign,)


class ElementwiseMap(LocalMap):
    """y = slopes[q] x + offsets[q] entry by entry, the codes q held fixed."""

    def __init__(self, spline: ScalarSpline, codes: Tensor, dtype: torch.dtype) -> None:
        self.spline = spline
        self.codes = codes
        self.dtype = dtype

    def _scale(self, like: Tensor) -> Tensor:
        return laid_out_as(self.spline.scale(self.codes, self.dtype), like, self.dtype)

    def mv(self, tangents: Sequence[Tensor | None]) -> Tensors:
        return (tangents[0] * self._scale(tangents[0]),)

    def rmv(self, cotangents: Sequence[Tensor | None]) -> Tensors:
        return (cotangents[0] * self._scale(cotangents[0]),)

    def offsets(self) -> Tensors:
        return (self.spline.shift(self.codes, self.dtype),)


def laid_out_as(tensor: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor (N, C, H, W) in the dtype and the memory layout of rows (R, N, C, H, W): mixed layouts are slow."""
    last = rows.dim() == 5 and tensor.dim() == 4 and rows.stride(2) == 1
    return tensor.to(dtype, memory_format=torch.channels_last if last else torch.preserve_format)


@dataclass(frozen=True, eq=False)
class Choice(Operator):
    """The largest or the smallest of two tensors, entry by entry; the first wins a tie."""

    traced: Affine
    largest: bool
    pieces: int = 2
    continuous: bool = True

    @property
    def kind(self) -> str:
        return self.traced.kind

    @property
    def active(self) -> tuple[int, ...]:
        return self.traced.active

    @property
    def convex(self) -> bool:
        return self.largest

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.traced(*inputs)

    def _sides(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        first, second = (inputs[arg.position] if hasattr(arg, "position") else arg for arg in self.traced.args)
        return first, second

    def codes(self, inputs: Sequence[Tensor], value) -> Tensor:
        first, second = self._sides(inputs)
        return second > first if self.largest else second < first

    def local(self, inputs: Sequence[Tensor], value) -> LocalMap:
        codes = self.codes(inputs, value)
        held = [None if position in self.active else item for position, item in enumerate(inputs)]

        def function(*leaves: Tensor) -> Tensor:
            filled = list(held)
            for position, leaf in zip(self.active, leaves, strict=True):
                filled[position] = leaf
            first, second = self._sides(filled)
            return torch.where(codes, second, first)

        signatures = [Signature.of(inputs[position]) for position in self.active]
        return FrozenFunction(function, signatures, homogeneous=len(self.active) == 2)

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,) * len(self.active)


@dataclass(frozen=True, eq=False)
class Comparison(Operator):
    """A comparison of dependent values: constant inside a region, it jumps where the region ends."""

    traced: Affine
    active: tuple[int, ...] = ()
    pieces: int = 2
    convex: bool = False
    continuous: bool = False

    @property
    def kind(self) -> str:
        return self.traced.kind

    def __call__(self, *inputs: Tensor):
        return self.traced(*inputs)

    def codes(self, inputs: Sequence[Tensor], value) -> Tensor:
        codes = as_tuple(value)[0]
        return codes + 1 if codes.is_floating_point() or self.pieces == 3 else codes

    def local(self, inputs: Sequence[Tensor], value) -> LocalMap:
        raise AssertionError("a comparison has no slopes")
