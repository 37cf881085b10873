"""One sample, traced alone and mapped over the batch: for modules whose Python code fixes the number of samples.

``x.view(len(x), -1)``, ``int(x.shape[0])`` and ``torch.stack([f(row) for row in x])`` tell a tracer one number of
samples, though the samples never meet. The graph of a single sample is then run for all of them at once: every value
has an axis of samples in front, or folded into its own first axis, where operators take any number of planes.
"""

from __future__ import annotations

import operator as python_operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.fx import Interpreter
from torch.fx.traceback import preserve_node_meta
from torch.utils._pytree import tree_flatten, tree_unflatten

from maxaffine._capture.alone import run_traced
from maxaffine._capture.batch import AXES
from maxaffine._capture.call import Call, leaves
from maxaffine._capture.export import Traced
from maxaffine._capture.rules.shape import copy_of
from maxaffine._graph import BatchAxis

aten = torch.ops.aten

# They take any number of planes along the first axis of their first argument, and have no rule for a batch of them.
PLANES = re.compile(r"[1-3]d(_|$)|^convolution$|batch_norm|instance_norm|^addmm$|^mm$")


@dataclass(frozen=True)
class Samples:
    """A value of every sample."""

    tensor: Tensor  # (N, *own), or (N * own[0], *own[1:]) where it is folded
    first: int | None = None  # own[0] where it is folded

    def apart(self) -> Tensor:
        """(N, *own)."""
        return self.tensor if self.first is None else self.tensor.unflatten(0, (-1, self.first))

    def fold(self) -> Samples:
        """With the samples folded into the value's own first axis."""
        if self.first is not None:
            return self
        return Samples(self.tensor.flatten(0, 1), self.tensor.shape[1])


class Mapped(nn.Module):
    """A module that runs the graph of one sample for all samples of its inputs."""

    def __init__(self, alone: Traced, inputs: Sequence[int], outputs: Sequence[tuple[BatchAxis, int] | None]) -> None:
        super().__init__()
        # Where each input keeps its samples; where each output is to keep them, and its number of axes.
        self.alone, self.inputs, self.outputs = alone, tuple(inputs), tuple(outputs)
        for name, tensor in alone.constants.items():
            self.register_buffer(name, tensor)

    def forward(self, *inputs: Tensor) -> tuple[Any, ...]:
        """The outputs of all samples."""
        # The graph of one sample was traced with an axis of size one for the samples, which each keeps as its own.
        given = [
            Samples(tensor, 1) if axis == 0 else Samples(tensor.movedim(axis, 0).unsqueeze(1 + axis))
            for tensor, axis in zip(inputs, self.inputs, strict=True)
        ]
        with preserve_node_meta():
            found = run_traced(replace(self.alone, constants=dict(self.named_buffers())), given, Mapping)
        return tuple(_join(item, placed) for item, placed in zip(found, self.outputs, strict=True))


def _join(item: Any, placed: tuple[BatchAxis, int] | None) -> Any:
    """One output of all samples, as the module returns it."""
    if placed is None or not isinstance(item, Samples):
        return item
    axis, rank = placed
    if axis == BatchAxis() and item.first == 1:
        return item.tensor
    tensor = item.apart()
    own = tensor.shape[1:]
    # A squeeze() may have dropped the axis of a single sample.
    before, after = own[: axis.dim], own[axis.dim + 1 if len(own) == rank else axis.dim :]
    # Each sample's part of the axis goes to its own place in it.
    split = tensor.reshape(tensor.shape[0], *before, axis.outer, axis.inner, *after)
    return split.movedim(0, axis.dim + 1).flatten(axis.dim, axis.dim + 2)


class Mapping(Interpreter):
    """Runs every operator for all samples."""

    def call_function(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """One operator: on all planes, along its own axis where it joins tensors, or by PyTorch's rule for a batch."""
        flat, spec = tree_flatten((args, kwargs))
        places = [place for place, item in enumerate(flat) if isinstance(item, Samples)]
        if not places or target is python_operator.getitem:
            return super().call_function(target, args, kwargs)

        def call(*tensors: Any) -> Any:
            filled = list(flat)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            positional, named = tree_unflatten(filled, spec)
            return (WITH_RULE.get(target) or target)(*positional, **named)

        samples = [flat[place] for place in places]
        if target is aten.cat.default:
            return _cat(*args)
        # It works on the last axis alone: the samples stay folded, unless they are folded into that.
        if target is aten.linear.default and len(samples) == 1 and samples[0] is args[0]:
            value = samples[0] if samples[0].tensor.dim() > 1 else Samples(samples[0].apart())
            return _wrap(call(value.tensor), value.first)
        if _by_planes(target, args, samples):
            folded = [item.fold() for item in samples]
            return _wrap(call(*(item.tensor for item in folded)), folded[0].first)
        # What acts entry by entry or along other axes leaves the folded axis as it is.
        single = sum(isinstance(item, Tensor | Samples) for item in flat) == 1
        if single and samples[0].first is not None and _leaves_first_axis(target, args, kwargs, samples[0]):
            return _wrap(call(samples[0].tensor), samples[0].first)
        if not _has_rule(target):  # else PyTorch runs it sample by sample, for the number of samples of the trace
            raise NotImplementedError(f"{target} has no rule for a batch")
        return _wrap(vmap(call)(*(item.apart() for item in samples)), None)


def _has_rule(target: Any) -> bool:
    """Whether PyTorch has a rule for a batch of an operator, or takes it apart into operators that have."""
    known = torch._C._dispatch_has_kernel_for_dispatch_key
    named = isinstance(target, torch._ops.OpOverload) and target not in WITH_RULE
    return not named or any(known(target.name(), key) for key in ("FuncTorchBatched", "CompositeImplicitAutograd"))


def _wrap(value: Any, first: int | None) -> Any:
    flat, spec = tree_flatten(value)
    # A batch-norm in evaluation mode returns empty statistics, which nobody reads.
    return tree_unflatten([Samples(item, first) if isinstance(item, Tensor) else item for item in flat], spec)


def _by_planes(target: Any, args: tuple, samples: Sequence[Samples]) -> bool:
    """Whether an operator takes planes, and all that varies with the sample is planes."""
    if not isinstance(target, torch._ops.OpOverload) or not PLANES.search(_kind(target)):
        return False
    planes = args[1] if _kind(target) == "addmm" else args[0]
    beside = [item for item in samples if item is not planes]
    return isinstance(planes, Samples) and (not beside or _kind(target).startswith("max_unpool"))


def _leaves_first_axis(target: Any, args: tuple, kwargs: dict[str, Any], value: Samples) -> bool:
    """Whether a PyTorch operator on one tensor acts entry by entry, or along other axes than the first."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return False
    if torch.Tag.pointwise in target.tags:
        return True
    arguments = Call.of(target, args, kwargs, "", "").arguments
    named = [item for name in AXES for item in leaves([arguments.get(name)]) if isinstance(item, int)]
    return bool(named) and all(item > 0 or -value.tensor.dim() < item < 0 for item in named)


def _kind(target: Any) -> str:
    return target._schema.name.split("::")[1].strip("_").removesuffix("_legit_no_training")


def _cat(tensors: Sequence[Any], dim: int = 0) -> Samples:
    """Tensors joined, constants among them once per sample: PyTorch's rule takes the batch for a fixed number."""
    count = next(item.apart().shape[0] for item in tensors if isinstance(item, Samples))
    filled = [item.apart() if isinstance(item, Samples) else item.expand(count, *item.shape) for item in tensors]
    return Samples(torch.cat(filled, dim + 1 if dim >= 0 else dim))


# PyTorch has no rule for a batch of these, or one that takes the batch for a fixed number.
WITH_RULE: dict[Callable, Callable] = {aten.copy.default: copy_of}
