"""Where inf or NaN comes from, in a network that was given finite numbers."""

from cmath import isfinite
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import copysign, isinf, isnan
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._graph.contract import Operator
from maxaffine._graph.frozen import Affine, Traced, as_tuple
from maxaffine._graph.graph import BatchAxis, Graph, Step
from maxaffine._graph.linearization import undisturbed
from maxaffine.errors import BadInput


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is inf or NaN: in one pass in the usual case, for a finite sum proves it."""
    if tensor.is_floating_point() and tensor.element_size() == 1:  # of which PyTorch has no sum
        tensor = tensor.float()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())


def refuse_overflow(graph: Graph, inputs: Sequence[Tensor], first: int = 0) -> None:
    """Refuse inputs at which an operator makes inf or NaN of finite numbers, by the first that does."""
    # A constant of infinity, as a mask gives it to a maximum, is not an overflow, nor is what becomes of it later: the
    # operator is run again with finite numbers in place of all that it is given, and of its own.
    with undisturbed(inputs[0].device):
        for step, arguments, value, _ in graph.walk(inputs):
            if not step.records or not any(wrong for *_, wrong in _outputs(step, value)):
                continue
            # Infinity may come in, with a mask's constant, or be made here: only what tame numbers make too is an
            # overflow.
            operator, given = _tame(step.operator), tree_map(_finite, arguments)
            if any(map(_holds_nan, tree_leaves((given, vars(operator))))):
                continue
            for number, item, wrong in _outputs(step, operator(*given)):
                if wrong:
                    raise BadInput(_message(step, (graph.values[number].batch or BatchAxis()).to_front(item), first))


def _outputs(step: Step, value: Any) -> Iterator[tuple[int, Tensor, bool]]:
    """The number and the tensor of each output that is used, and whether it holds inf or NaN."""
    for number, item in zip(step.outputs, as_tuple(value), strict=False):
        if number is not None and isinstance(item, Tensor):
            yield number, item, not all_finite(item)


def _holds_nan(item: Any) -> bool:
    return bool(item.isnan().any()) if isinstance(item, Tensor) else isinstance(item, float) and isnan(item)


def _finite(item: Any) -> Any:
    """One with its sign in place of each infinity: what is infinite all the same has become so here."""
    if isinstance(item, Tensor) and item.is_floating_point():
        return torch.where(item.isinf(), item.sign(), item)
    return copysign(1.0, item) if isinstance(item, float) and isinf(item) else item


def _tame(operator: Operator) -> Operator:
    """The operator with finite numbers of its own: what it fills in."""
    traced = operator.traced if isinstance(operator, Traced) else operator
    if not isinstance(traced, Affine):
        return operator
    args, kwargs = tree_map(_finite, (traced.args, traced.kwargs))
    return replace(traced, args=args, kwargs=kwargs)


def _message(step: Step, front: Tensor, first: int) -> str:
    record = step.records[-1]
    wrong = ~front.isfinite().reshape(len(front), -1)
    sample = int(wrong.any(1).int().argmax())
    found = "NaN" if bool(front[sample].isnan().any()) else "inf"
    module = f"module {record.module_path!r}" if record.module_path else "the root module"
    return (
        f"x: operator {record.name!r} ({record.kind}) in {module} gives {found} at sample {first + sample} for finite"
        f" inputs: {front.dtype} overflows there, and no affine map exists; scale the data or the weights, or capture"
        " the model in a wider type, e.g. model.double()"
    )
