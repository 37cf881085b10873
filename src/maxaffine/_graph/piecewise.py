"""Piecewise-affine operators that act entry by entry: a scalar function with knots, and a choice between tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from math import isinf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxaffine._graph.boundaries import Boundaries, Contest, Duels, Knots, Pair
from maxaffine._graph.contract import LocalMap, Operator, Sign, Tensors, Traits
from maxaffine._graph.frozen import FrozenFunction, Traced, as_tuple, fill
from maxaffine._graph.linear import laid_out_as
from maxaffine._graph.splines import JUMPS, NEVER_SWITCHES, Maximum, Splines, of_kinks

FLOAT32 = torch.finfo(torch.float32).max


def _above(x: Tensor, knot: float, reached: bool) -> Tensor:
    """Which entries are above a knot, or at it where that is reached."""
    # NumPy compares several times as fast as PyTorch, and like it rounds the knot to the type of the entries; a knot
    # beyond that type it warns of.
    if not x.is_cpu or x.dtype not in (torch.float32, torch.float64) or abs(knot) > FLOAT32:
        return x >= knot if reached else x > knot
    entries = x.numpy(force=True)
    return torch.from_numpy(np.asarray(entries >= knot if reached else entries > knot))


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
        x = self._operand(x)
        above = [_above(x, knot, at) for knot, at in zip(self.knots, reached, strict=True)]
        # The bytes of truth values are 0 and 1: they are counted where they lie.
        return above[0] if len(above) == 1 else reduce(Tensor.add_, (mask.view(torch.uint8) for mask in above))

    def _operand(self, x: Tensor) -> Tensor:
        """The numbers that are compared with the knots: in their own type, to which PyTorch rounds the knots."""
        return x

    @property
    def rectifies(self) -> bool:
        """Whether the function is max(x, 0), the lower piece winning at 0."""
        fixed = not any(isinstance(slope, Tensor) for slope in self.slopes)
        return fixed and not any((*self.knots, *self.offsets, *self.reached)) and self.slopes == (0.0, 1.0)

    def scale(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """slopes[codes]; a mask where the slopes are zeros and ones, which takes a byte an entry."""
        if all(not isinstance(slope, Tensor) and slope in (0.0, 1.0) for slope in self.slopes):
            if codes.dtype == torch.bool and self.slopes[0] != self.slopes[1]:
                return codes if self.slopes[1] else codes.logical_not()
            ones = [codes == piece for piece, slope in enumerate(self.slopes) if slope == 1.0]
            return reduce(torch.logical_or, ones) if ones else torch.zeros_like(codes, dtype=torch.bool)
        return self._pick(self.slopes, codes, dtype)

    def shift(self, codes: Tensor, dtype: torch.dtype) -> Tensor | None:
        """offsets[codes], or None where every offset is zero."""
        return self._pick(self.offsets, codes, dtype) if any(self.offsets) else None

    @staticmethod
    def _pick(table: Sequence[float | Tensor], codes: Tensor, dtype: torch.dtype) -> Tensor:
        # Piece by piece, for a slope may be a tensor that broadcasts against the entries, with no table to look up in.
        picked = torch.zeros(codes.shape, dtype=dtype, device=codes.device)
        for piece, entry in enumerate(table):
            fill = torch.as_tensor(entry, dtype=dtype, device=codes.device)
            picked = torch.where(codes == piece, fill, picked)
        return picked

    @property
    def continuous(self) -> bool:
        """Whether neighboring pieces meet at every knot."""
        pieces = pairwise(zip(self.slopes, self.offsets, strict=True))
        gaps = [
            (knot, torch.as_tensor((s1 - s0) * knot + (b1 - b0), dtype=torch.float64))
            for knot, ((s0, b0), (s1, b1)) in zip(self.knots, pieces, strict=True)
        ]
        return all(bool((gap.abs() <= 1e-12 * max(1.0, abs(knot))).all()) for knot, gap in gaps)

    @property
    def convex(self) -> bool:
        """Whether the function is convex: continuous with increasing slopes."""
        # Where pieces meet at their knots, slopes that do not fall make a convex function, and no others do.
        return self.continuous and all(bool(torch.as_tensor(s1 >= s0).all()) for s0, s1 in pairwise(self.slopes))

    def hard(self) -> str:
        """Why it is no difference of maxima that is known; empty where it is."""
        if not self.continuous:
            return JUMPS
        several = len(self.knots) > 1 and any(isinstance(slope, Tensor) for slope in self.slopes)
        return "it has several knots, and slopes that are tensors" if several else ""

    def splines(self, x: Tensor) -> Splines:
        """The function as a difference of maxima: its kinks that turn upwards, and those that turn downwards."""
        changes = [after - before for before, after in pairwise(self.slopes)]
        first, offset = self.slopes[0], self.offsets[0]
        base = offset if isinstance(first, float) and first == 0 else first * x + offset
        return Splines(base, of_kinks(x, list(zip(changes, self.knots, strict=True))))

    @property
    def sign(self) -> Sign:
        """The sign shared by all slopes."""
        return Sign.of(*map(torch.as_tensor, self.slopes))


class WideSpline(ScalarSpline):
    """The same, of an operator that compares 16-bit numbers in float32, where other numbers tie with a knot."""

    def _operand(self, x: Tensor) -> Tensor:
        return x.float() if x.element_size() < 4 else x


@dataclass(frozen=True, eq=False)
class Elementwise(Traced):
    """A scalar piecewise-affine function applied to every entry."""

    spline: ScalarSpline

    @property
    def traits(self) -> Traits:
        spline = self.spline
        return Traits(
            self.traced.kind,
            pieces=len(spline.slopes),
            convex=spline.convex,
            continuous=spline.continuous,
            homogeneous=not any(spline.offsets),
        )

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        # max(x, 0) is zero exactly on its lower piece, and PyTorch casts to bool several times faster than it compares.
        return value.bool() if self.spline.rectifies else self.spline.codes(inputs[0])

    def boundaries(self) -> Boundaries:
        return Knots(self.spline.knots, self.spline.reached)

    def plain(self) -> Operator:
        parametric = self.traced.target is torch.ops.aten._prelu_kernel.default
        return replace(self.traced, target=_prelu) if parametric else self.traced

    def hard(self) -> str:
        return self.spline.hard()

    def splines(self, inputs: Sequence[Any]) -> Splines:
        return self.spline.splines(inputs[0])

    def restricted(self, units: Tensor, shape: Sequence[int]) -> Callable[[Tensor], Tensor]:
        # A slope of each channel is one of each entry, of which those that are asked for are taken.
        slopes = tuple(
            slope.expand(1, *shape).flatten()[units] if isinstance(slope, Tensor) and slope.dim() else slope
            for slope in self.spline.slopes
        )
        spline = replace(self.spline, slopes=slopes)

        def function(x: Tensor) -> Tensor:
            codes = spline.codes(x)
            value, shift = scale_by(x, spline.scale(codes, x.dtype)), spline.shift(codes, x.dtype)
            return value if shift is None else value + shift

        return function

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return ElementwiseMap(self.spline, self.spline.codes(inputs[0]), inputs[0].dtype)

    def signs(self) -> tuple[Sign, ...]:
        return (self.spline.sign,)


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    """As aten._prelu_kernel, which autocast does not know."""
    return torch.ops.aten._prelu_kernel.default(x, weight.to(x.dtype))


class ElementwiseMap(LocalMap):
    """y = slopes[q] x + offsets[q] entry by entry, the codes q held fixed."""

    fresh = True

    def __init__(self, spline: ScalarSpline, codes: Tensor, dtype: torch.dtype) -> None:
        self.spline = spline
        self.codes = codes
        self.dtype = dtype
        self._ready: Tensor | None = None

    def _scale(self, rows: Tensor) -> Tensor:
        """slopes[q], kept in the layout of the rows."""
        # Kept as it was last wanted: the rows of one batch have one layout.
        scale = self.spline.scale(self.codes, self.dtype) if self._ready is None else self._ready
        self._ready = laid_out_as(scale, rows, self.dtype)
        return self._ready

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return (scale_by(tangents[0], self._scale(tangents[0])),)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return (cotangents[0] * self._scale(cotangents[0]),)

    def rmv_owned(self, cotangents: Sequence[Any]) -> Tensors:
        return (cotangents[0].mul_(self._scale(cotangents[0])),)

    def offsets(self) -> Tensors:
        return (self.spline.shift(self.codes, self.dtype),)


def scale_by(tangents: Tensor, scale: Tensor) -> Tensor:
    """The product; zero where the scale is, also for a constant of infinity that the activation clips."""
    return torch.where(scale == 0, 0, tangents * scale)


@dataclass(frozen=True, eq=False)
class Choice(Traced):
    """The largest or the smallest of two tensors, entry by entry; the first wins a tie."""

    largest: bool

    @property
    def traits(self) -> Traits:
        homogeneous = len(self.traced.active) == 2
        return Traits(self.traced.kind, self.traced.active, pieces=2, convex=self.largest, homogeneous=homogeneous)

    def sides(self, inputs: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """The two tensors chosen from."""
        return fill(self.traced.args, inputs)

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        # Strictly, so that the first, the lower piece, wins a tie.
        first, second = self.sides(inputs)
        return second > first if self.largest else second < first

    def boundaries(self) -> Boundaries:
        return Duels(self._duel)

    def hard(self) -> str:
        return ""

    def splines(self, inputs: Sequence[Any]) -> Splines:
        first, second = self.sides(inputs)
        # max(a, b) = a + max(0, b - a), and min(a, b) = a - max(0, a - b).
        gap, sign = (second - first, 1.0) if self.largest else (first - second, -1.0)
        return Splines(first, (Maximum(gap, sign),))

    def _duel(self, inputs: Sequence[Any]) -> list[Pair]:
        first, second = self.sides(inputs)
        return [Pair(second, first) if self.largest else Pair(first, second)]

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        codes = self.codes(inputs, value)

        def choose(filled: list[Any]) -> Tensor:
            first, second = self.sides(filled)
            return torch.where(codes, second, first)

        return FrozenFunction.of(choose, inputs, self.traced.active, self.traits.homogeneous)

    def signs(self) -> tuple[Sign, ...]:
        return (Sign.NONNEGATIVE,) * len(self.traced.active)


@dataclass(frozen=True, eq=False)
class Comparison(Traced):
    """A comparison of dependent values: constant inside a region, it jumps where the region ends."""

    pieces: int = 2

    @property
    def traits(self) -> Traits:
        return Traits(self.traced.kind, active=(), pieces=self.pieces, convex=False, continuous=False)

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor:
        # -1, 0 and 1 of a sign are its pieces 0, 1 and 2; a place or a truth value is a code as it is.
        codes = as_tuple(value)[0]
        return (codes + 1).to(torch.uint8) if codes.is_floating_point() else codes

    def boundaries(self) -> Boundaries:
        kind = self.traced.kind
        if kind in ("argmax", "argmin"):
            return Contest(self._along, factor=1 if kind == "argmax" else -1)
        return Duels(self._pairs, counted=kind in ("gt", "ge", "lt", "le", "bucketize"))

    def hard(self) -> str:
        # Finite numbers are neither NaN nor infinite, as nan_to_num asks.
        beyond = any(isinstance(item, float) and isinf(item) for item in self.traced.args)
        return NEVER_SWITCHES if beyond or self.traced.kind in ("isnan", "isinf") else JUMPS

    def _pairs(self, inputs: Sequence[Any]) -> list[Pair]:
        kind = self.traced.kind
        if kind in ("isnan", "isinf"):  # never, of finite numbers
            return []
        if kind == "bucketize":
            x, knots, *_ = fill(self.traced.args, inputs)
            return [Pair(x, knot, bool(self.traced.kwargs.get("right"))) for knot in knots]
        if kind not in ("gt", "ge", "lt", "le", "eq", "ne"):
            return [Pair(inputs[0], 0.0)]  # a sign, or whether an entry is zero
        first, second = fill(self.traced.args, inputs)[:2]
        # The larger side first, so that what counts is true above the boundary, or from it on. Of eq and ne the code
        # changes where both are equal and nowhere else, whichever side counts.
        reached = kind in ("ge", "le")
        return [Pair(second, first, reached) if kind in ("lt", "le") else Pair(first, second, reached)]

    def _along(self, x: Tensor) -> Tensor:
        """The entries that a winner's place is found among."""
        _, dim, keepdim = (*self.traced.args, None, False)[:3]
        axis = x.dim() - 1 if dim is None else int(dim) % x.dim()
        entries = x.movedim(axis, -1)
        return entries.unsqueeze(axis) if keepdim else entries

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        raise TypeError("a comparison is constant within a region: it has no slopes")
