"""The contract of one operator: run it, read its codes, and give the affine map that it is at given inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any

from torch import Tensor

from maxaffine._graph.boundaries import Boundaries
from maxaffine._graph.splines import Splines

Tensors = tuple[Tensor | None, ...]


class Sign(Enum):
    """What is known of the entries of an affine operator's slopes."""

    NONNEGATIVE = 1
    NONPOSITIVE = -1
    MIXED = 0

    @classmethod
    def of(cls, *slopes: Tensor) -> Sign:
        """The sign that all entries share."""
        if all(bool((item >= 0).all()) for item in slopes):
            return cls.NONNEGATIVE
        return cls.NONPOSITIVE if all(bool((item <= 0).all()) for item in slopes) else cls.MIXED


@dataclass(frozen=True)
class OperatorRecord:
    """What a network says of one of its operators.

    Attributes:
        name: Unique name: module path, operator kind where the module calls several, ``#2`` for a second call.
        kind: The operator, e.g. ``convolution``, ``relu``, ``max_pool2d``.
        pieces: Affine pieces R per unit; 1 for an affine operator; 2 for a gated unit, the values of its hard code.
        units: Shape K of the operator's output for one input.
        convex: Whether each unit is a convex function of the operator's own input (a max-affine spline).
        continuous: Whether each unit is a continuous function of the operator's own input.
        module_path: Dotted path of the module that called it, empty for the root module.
        source: Source line of the call, when it is known.
        held: Of a smooth operator: what it is with its gate held at the input, as a formula; empty for any other.
        carrier: Of a smooth operator: what computes the value that it is affine in.
        gates: Of a smooth operator: what computes the values that are held, which may be the carrier itself.
    """

    name: str
    kind: str
    pieces: int
    units: tuple[int, ...]
    convex: bool
    continuous: bool
    module_path: str = ""
    source: str = ""
    held: str = ""
    carrier: str = ""
    gates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Traits:
    """What an operator says of itself.

    Attributes:
        kind: The operator's name in records.
        active: Positions of the inputs on which the output depends affinely (the others are held fixed at x).
        pieces: Affine pieces per unit; 1 for an affine operator.
        convex: Whether each unit is convex in the operator's own input.
        continuous: Whether each unit is continuous in the operator's own input.
        homogeneous: Whether no piece has an offset; of an affine operator it need not be said.
        held: Of a smooth operator: what it is with its gate held at the input, as a formula; empty for any other.
    """

    kind: str
    active: tuple[int, ...] = (0,)
    pieces: int = 1
    convex: bool = True
    continuous: bool = True
    homogeneous: bool = False
    held: str = ""


@dataclass(frozen=True)
class Columns:
    """Some columns of a matrix, entry by entry, those that are zero left out.

    Attributes:
        column: (n,) number of the column among those that were asked for.
        row: (n,) flat number of the output's entry.
        value: (n,) the entry of the matrix.
    """

    column: Tensor
    row: Tensor
    value: Tensor


class LocalMap(ABC):
    """The affine map y = A x + b that one operator is at one batch of inputs.

    It maps the operator's dependent inputs (its ``active`` ones) to its outputs. A leading axis of rows, R, carries
    several cotangents through at once; the axes after it are the operator's own.

    Attributes:
        fresh: Whether ``rmv`` returns tensors of its own, that alias neither each other nor its arguments.
    """

    fresh: bool = False

    @abstractmethod
    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        """A v: one tangent per active input to one tangent per output (None where it does not depend on them)."""

    @abstractmethod
    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        """A^T u: one cotangent (R, *output) per output (None is zero) to one (R, *input) per active input."""

    def rmv_owned(self, cotangents: Sequence[Any]) -> Tensors:
        """As :meth:`rmv`, of cotangents that nobody else holds, so that they may be overwritten."""
        return self.rmv(cotangents)

    def offsets(self) -> Tensors:
        """The offset b of the first output, one broadcastable tensor (or None for zero) per record of the step."""
        return (None,)

    def columns(self, units: Tensor) -> Columns | None:
        """The columns of A that belong to some entries of the only active input; None where they are not at hand."""
        # Only asked where samples lie along the first axis of input and output, and A is the same for all of them.
        return None


class Operator(ABC):
    """One frozen operator of a graph: affine, or piecewise affine with a code per unit."""

    @property
    @abstractmethod
    def traits(self) -> Traits:
        """What the operator says of itself."""

    @abstractmethod
    def __call__(self, *inputs: Any) -> Any:
        """The operator's own value, computed as the user's module computes it."""

    @property
    def gain(self) -> float:
        """How many times less a product with its matrix takes per entry, in float64, than the operator per product."""
        return 1.0

    @property
    def blocks(self) -> int:
        """Into how many blocks of equal size, on the diagonal, its matrix falls apart."""
        return 1

    def codes(self, inputs: Sequence[Any], value: Any) -> Tensor | None:
        """The winning piece of every unit, shaped as the first output; None for an affine operator."""
        return None

    def boundaries(self) -> Boundaries | None:
        """Where the code changes; None for an affine operator. Without them no partition can be found."""
        return None

    @abstractmethod
    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        """The affine map that the operator is at these inputs."""

    def hard(self) -> str:
        """Why its codes cannot be soft; empty where :meth:`splines` says what is softened."""
        return "its rule does not say of which max-affine splines it is the difference (Operator.hard and splines)"

    def splines(self, inputs: Sequence[Any]) -> Splines:
        """The difference of max-affine splines that the first output is."""
        raise TypeError(self.hard())

    def plain(self) -> Operator:
        """The operator as PyTorch differentiates and casts it, its constants where they were traced."""
        return self

    def restricted(self, units: Tensor, shape: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
        """The operator on some entries of samples of a shape, rows (N, k) to rows (N, k); None if it mixes entries."""
        # Only asked where samples lie along the first axis; units are flat numbers in a sample.
        return None

    @property
    def channel_axis(self) -> int | None:
        """The axis of its units along which every channel has weights of its own; None without such weights."""
        return None

    def carried(self, axis: int, old: Sequence[int], new: Sequence[int]) -> int | None:
        """Along which axis of its units what lay along one of its input's units lies; None where along none alone."""
        # Under another shape, along one of that size that as many entries come before.
        same = [at for at, size in enumerate(new) if size == old[axis] and prod(new[:at]) == prod(old[:axis])]
        return axis if tuple(old) == tuple(new) else same[0] if same else None

    def signs(self) -> tuple[Sign, ...]:
        """The sign of the slopes with respect to each active input, over all pieces."""
        return (Sign.MIXED,) * len(self.traits.active)
