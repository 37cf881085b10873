"""The margins of an operator: affine functions whose signs say which piece every unit is on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine.errors import NotPiecewiseAffine
from maxaffine.graph import AxisSelection, BatchAxis, Choice, Comparison, Elementwise, MaxPool, Step, fill
from maxaffine.partition.lines.cuts import COMPARED, LARGEST, RUNNING, refusal
from maxaffine.partition.windows import windows


@dataclass(frozen=True)
class Margins:
    """Affine functions of the network's input, one per column, evaluated at several points.

    Attributes:
        values: (points, margins); the first point is the one whose pieces are described.
        sign: (margins,) 1 where the piece needs the value >= 0, -1 where it needs <= 0.
        unit: (margins,) flat number of the unit among the operator's.
    """

    values: Tensor
    sign: Tensor
    unit: Tensor


def margins(step: Step, inputs: Sequence[Any], units: Tensor, axis: BatchAxis) -> Iterator[Margins]:
    """The margins of a step's operator.

    Args:
        step: A step with several pieces.
        inputs: Its inputs at several points, all on the affine map of the first, in their own layout.
        units: Numbers of the entries of its first output, (points, *units).
        axis: Where that output keeps the points.

    Yields:
        One set of margins after another.

    Raises:
        NotPiecewiseAffine: For an operator whose pieces are not convex sets of its inputs, or not known here.
    """
    operator = step.operator
    if isinstance(operator, Elementwise):
        yield from _between_knots(axis.to_front(inputs[0]), operator.spline.knots, units)
        return
    if isinstance(operator, Choice):
        yield _signed(axis.to_front(_difference(operator, inputs)), units)
        return
    if isinstance(operator, Comparison) and operator.traced.kind not in LARGEST:
        yield from _compared(operator, inputs, units, axis)
        return
    if axis != BatchAxis():
        raise NotPiecewiseAffine(
            *refusal(step, "it keeps its samples in another axis than the first", "capture with the batch first")
        )
    if isinstance(operator, MaxPool):
        yield _pooled(operator, inputs[0], units)
    elif isinstance(operator, AxisSelection):
        flat = operator.flat(inputs[0])
        yield _selected(step, flat, _numbers(operator, units))
    elif isinstance(operator, Comparison):
        dim = operator.traced.args[1] if len(operator.traced.args) > 1 else None
        lines = LARGEST[operator.traced.kind] * inputs[0].double().movedim(-1 if dim is None else int(dim), -1)
        yield _beaten(lines.reshape(len(lines), -1, lines.shape[-1]), units[0].reshape(-1, 1))
    else:
        raise NotPiecewiseAffine(*refusal(step))


def _difference(operator: Choice | Comparison, inputs: Sequence[Any]) -> Tensor:
    first, second = fill(operator.traced.args, inputs)[:2]
    return torch.as_tensor(first, dtype=torch.float64) - torch.as_tensor(second, dtype=torch.float64)


def _signed(values: Tensor, units: Tensor, ties: int = 1) -> Margins:
    """A margin per entry; the sign that the first point has."""
    values, numbers = values.expand(units.shape).reshape(len(units), -1), units[0].reshape(-1)
    positive = values[0] >= 0 if ties > 0 else values[0] > 0
    return Margins(values, positive.to(values.dtype) * 2 - 1, numbers)


def _between_knots(x: Tensor, knots: Sequence[float], units: Tensor) -> Iterator[Margins]:
    """The two knots around each entry; those further off follow from them."""
    code = torch.stack([x[:1] > knot for knot in knots]).sum(0)
    for place, knot in enumerate(knots):
        near = ((code == place) | (code == place + 1)).reshape(-1)
        found = _signed(x - knot, units, ties=-1)
        yield Margins(found.values[:, near], found.sign[near], found.unit[near])


def _numbers(operator: AxisSelection, units: Tensor) -> Tensor:
    """The unit of every group of lines; of one with several selected entries, the first."""
    if operator.kept is None:
        return units[0].movedim(operator.axes[0] - 1, -1).flatten(0, -2) if units.dim() > 2 else units[:1]
    return units[0].reshape(-1, 1)


def _selected(step: Step, flat: Tensor, numbers: Tensor) -> Margins:
    operator = step.operator
    if not isinstance(operator, AxisSelection):
        raise NotPiecewiseAffine(*refusal(step))
    lines = flat.reshape(len(flat), -1, flat.shape[-1])
    kind = operator.traced.kind
    if kind in LARGEST:
        return _beaten(LARGEST[kind] * lines, numbers)
    if kind in RUNNING:
        parts = [_beaten(RUNNING[kind] * lines[..., : p + 1], numbers[:, p : p + 1]) for p in range(lines.shape[-1])]
        return _stacked(parts)
    if kind in ("sort", "topk"):
        return _ordered(operator, lines, numbers)
    raise NotPiecewiseAffine(
        *refusal(
            step,
            "the inputs that share a code are no convex set: which entries lie below the chosen one may vary",
            "use partition.line, or sort the entries and pick one by its place",
        )
    )


def _beaten(lines: Tensor, numbers: Tensor) -> Margins:
    """The winner of every group minus each of the others."""
    winner = lines[0].argmax(-1, keepdim=True)
    ahead = lines.gather(-1, winner.expand(len(lines), *winner.shape)) - lines
    others = torch.ones_like(lines[0], dtype=torch.bool).scatter(-1, winner, False)
    unit = numbers.expand(others.shape)[others]
    return Margins(ahead[:, others], torch.ones_like(ahead[0, others]), unit)


def _ordered(operator: AxisSelection, lines: Tensor, numbers: Tensor) -> Margins:
    """Each selected entry against the next, and the last selected against all that were left out."""
    size, kept = lines.shape[-1], numbers.shape[-1]
    descending = _descending(operator, lines[0])
    factor = 1 if descending else -1
    order = (factor * lines[0]).sort(stable=True, dim=-1, descending=True).indices
    ranked = factor * lines.gather(-1, order.expand(lines.shape))
    chain = ranked[..., : kept - 1] - ranked[..., 1:kept]
    rest = ranked[..., kept - 1 : kept] - ranked[..., kept:]
    values = torch.cat([chain, rest], -1).flatten(1)
    unit = torch.cat([numbers[:, : kept - 1], numbers[:, kept - 1 :].expand(-1, size - kept)], -1).flatten()
    return Margins(values, torch.ones_like(values[0]), unit)


def _descending(operator: AxisSelection, lines: Tensor) -> bool:
    """Whether the operator takes the largest first: asked of the operator itself."""
    args, kwargs = operator.traced.args, operator.traced.kwargs
    if operator.traced.kind == "topk":
        return bool(args[3]) if len(args) > 3 else bool(kwargs.get("largest", True))
    named = kwargs.get("descending")
    return bool(named) if named is not None else bool(args[-1]) if isinstance(args[-1], bool) else False


def _pooled(operator: MaxPool, x: Tensor, units: Tensor) -> Margins:
    axes = len(operator.window)
    index, inside = windows(operator, x.shape[-axes:])
    planes = x.flatten(-axes)
    lines = planes[..., index].masked_fill(~inside, -torch.inf)
    found = _beaten(lines.reshape(len(x), -1, index.shape[1]), units[0].reshape(-1, 1))
    real = found.values[0].isfinite()
    return Margins(found.values[:, real], found.sign[real], found.unit[real])


def _compared(operator: Comparison, inputs: Sequence[Any], units: Tensor, axis: BatchAxis) -> Iterator[Margins]:
    kind = operator.traced.kind
    if kind in COMPARED:
        yield _signed(axis.to_front(_difference(operator, inputs)), units, ties=1 if kind in ("ge", "lt") else -1)
    elif kind == "bucketize":
        knots = fill(operator.traced.args, inputs)[1].double().tolist()
        yield from _between_knots(axis.to_front(inputs[0].double()), knots, units)
    elif kind not in ("isnan", "isinf"):
        yield _signed(axis.to_front(inputs[0].double()), units, ties=-1)  # sign, and conversion to bool


def _stacked(parts: Sequence[Margins]) -> Margins:
    return Margins(
        torch.cat([part.values for part in parts], 1),
        torch.cat([part.sign for part in parts]),
        torch.cat([part.unit for part in parts]),
    )
