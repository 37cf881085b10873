"""Where inf or NaN comes from, in a network that was given finite numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from typing import Any

from torch import Tensor

from maxaffine.errors import BadInput
from maxaffine.graph.contract import Operator
from maxaffine.graph.frozen import Affine, Traced, as_tuple
from maxaffine.graph.graph import BatchAxis, Graph, Step
from maxaffine.graph.undisturbed import undisturbed


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is inf or NaN: in one pass in the usual case, for a finite sum proves it."""
    return not tensor.is_floating_point() or bool(tensor.sum().isfinite() or tensor.isfinite().all())


def refuse_overflow(graph: Graph, inputs: Sequence[Tensor], first: int = 0) -> None:
    """Refuse inputs at which an operator makes inf or NaN of finite numbers, by the first that does.

    A constant of infinity, as a mask puts it in front of a maximum, is no overflow.

    Args:
        graph: The frozen graph.
        inputs: One tensor per graph input.
        first: What the first of these samples is called.

    Raises:
        BadInput: Names the operator, its module, the sample and the dtype.
    """
    with undisturbed(inputs[0].device):
        for step, arguments, value, _ in graph.walk(inputs):
            if not step.records or _holds_infinity(step.operator) or not all(map(_usable, arguments)):
                continue
            for number, item in zip(step.outputs, as_tuple(value), strict=False):
                if number is not None and isinstance(item, Tensor) and not all_finite(item):
                    raise BadInput(_message(step, (graph.values[number].batch or BatchAxis()).to_front(item), first))


def _usable(argument: Any) -> bool:
    return not isinstance(argument, Tensor) or all_finite(argument)


def _holds_infinity(operator: Operator) -> bool:
    """Whether one of the operator's own numbers is infinite: what it fills in."""
    traced = operator.traced if isinstance(operator, Traced) else operator
    if not isinstance(traced, Affine):
        return False
    items = [*traced.args, *traced.kwargs.values()]
    return any(isinf(item) if isinstance(item, float) else not _usable(item) for item in items)


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
