"""Pairs of operators that are run as two but differentiated as one, which saves a pass over memory.

A batch-norm folds into the convolution before it; an activation folds into the max-pooling after it, since only the
winners' slopes matter. The value, the codes and the split of the offsets stay those of the two operators.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph.contract import LocalMap, Operator, Tensors, Traits
from maxaffine._graph.frozen import Affine
from maxaffine._graph.graph import Graph, Step
from maxaffine._graph.linear import ChannelAffine, Convolution, ConvolutionMap
from maxaffine._graph.piecewise import Elementwise
from maxaffine._graph.selection import MaxPool, PlaneSelection, TileSelection


def fuse(graph: Graph) -> Graph:
    """The same graph with every pair fused whose inner value nobody else uses; that value is gone."""
    return _paired(graph, _pair)


def fold(graph: Graph) -> Graph:
    """The same graph with zeros around and batch-norms folded into convolutions, and run so: only rounding differs."""
    # What else a batch-norm gives is of training; a convolution gives one value.
    folded = _paired(graph, _fold)
    alone = (replace(s, outputs=s.outputs[:1]) if isinstance(s.operator, Convolution) else s for s in folded.steps)
    return replace(folded, steps=tuple(alone))


def _paired(graph: Graph, pair_of: Callable[[Operator, Operator], Operator | None]) -> Graph:
    """A graph with pairs of operators made one."""
    # An inner value that is used twice, or returned, has to stay a value.
    uses = Counter(number for step in graph.steps for number in step.inputs) + Counter(graph.outputs)
    steps: list[Step] = []
    makers: dict[int, int] = {}
    for step in graph.steps:
        maker = makers.get(step.inputs[0]) if step.inputs and uses[step.inputs[0]] == 1 else None
        pair = None if maker is None else pair_of(steps[maker].operator, step.operator)
        if maker is None or pair is None:
            maker = len(steps)
            steps.append(step)
        else:
            # The pair runs where its first operator did: all that it needs is there, and nobody needs less.
            first = steps[maker]
            steps[maker] = replace(step, operator=pair, inputs=first.inputs, records=first.records + step.records)
        makers[step.result] = maker
    return replace(graph, steps=tuple(steps))


def _fold(first: Operator, second: Operator) -> Convolution | None:
    if isinstance(first, Convolution) and isinstance(second, ChannelAffine):
        return first.rescale(second.scale, second.shift)
    if isinstance(first, Affine) and isinstance(second, Convolution) and not second.transposed:
        around = _zeros_around(first, len(second.padding))
        if around is not None:
            return replace(second, padding=tuple(map(sum, zip(second.padding, around, strict=True))))
    return None


def _zeros_around(operator: Affine, axes: int) -> tuple[int, ...] | None:
    """By how many zeros an operator lengthens both ends of each of the last axes; None if it does anything else."""
    if operator.kind not in ("pad", "constant_pad_nd") or operator.kwargs or not operator.homogeneous:
        return None
    pads, mode = operator.args[1], operator.args[2] if operator.kind == "pad" else "constant"
    if mode != "constant" or len(pads) > 2 * axes or min(pads, default=0) < 0 or pads[::2] != pads[1::2]:
        return None
    return (*(0,) * (axes - len(pads) // 2), *reversed(pads[::2]))


def _pair(first: Operator, second: Operator) -> Operator | None:
    if isinstance(first, Convolution) and isinstance(second, ChannelAffine):
        return FoldedConvolution(first, second, first.rescale(second.scale, second.shift))
    if isinstance(first, Elementwise) and isinstance(second, MaxPool) and second.tiled:
        return PooledActivation(first, second)
    return None


@dataclass(frozen=True, eq=False)
class FoldedConvolution(Operator):
    """A convolution and the batch-norm after it: run as two operators, differentiated as one."""

    convolution: Convolution
    norm: ChannelAffine
    folded: Convolution

    @property
    def traits(self) -> Traits:
        return self.convolution.traits

    def __call__(self, *inputs: Any) -> Any:
        return self.norm(self.convolution(*inputs))

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        return FoldedMap(self, inputs[0].shape)


class FoldedMap(ConvolutionMap):
    """The map of a folded convolution; its offset is still told apart into the two operators' own."""

    def __init__(self, operator: FoldedConvolution, shape: torch.Size) -> None:
        super().__init__(operator.folded, shape)
        self.pair = operator

    def offsets(self) -> Tensors:
        # The norm scales what the convolution adds: a bias after it is worth scale times itself.
        ones = self.operator.channel_shape()
        bias, norm = self.pair.convolution.bias, self.pair.norm
        own = None if bias is None else (bias * norm.scale).view(-1, *ones)
        return own, norm.shift.view(-1, *ones)


@dataclass(frozen=True, eq=False)
class PooledActivation(Operator):
    """An activation and the max-pooling after it."""

    activation: Elementwise
    pool: MaxPool

    @property
    def traits(self) -> Traits:
        return self.pool.traits

    def __call__(self, *inputs: Any) -> Any:
        return (*self.pool(activated := self.activation(*inputs)), activated)

    def local(self, inputs: Sequence[Any], value: Any) -> LocalMap:
        # Only the winners' slopes matter: they are multiplied into the mask by which the pooling is transposed.
        codes = self.activation.codes(inputs, value[-1])
        spline, dtype = self.activation.spline, inputs[0].dtype
        pooled = TileSelection(value[1], inputs[0].shape, self.pool.window, spline.scale(codes, dtype))
        shift = spline.shift(codes, dtype)
        # The winner's own offset, as an entry of the input that no slope scales.
        return PooledMap(pooled, None if shift is None else PlaneSelection.mv(pooled, [shift])[0])


class PooledMap(LocalMap):
    """y = scale[winner] x[winner] + shift[winner] for the winner of each window."""

    fresh = True

    def __init__(self, pooled: TileSelection, shift: Tensor | None) -> None:
        self.pooled = pooled
        self.shift = shift

    def mv(self, tangents: Sequence[Tensor]) -> Tensors:
        return self.pooled.mv(tangents)

    def rmv(self, cotangents: Sequence[Any]) -> Tensors:
        return self.pooled.rmv(cotangents)

    def offsets(self) -> Tensors:
        return self.shift, None
