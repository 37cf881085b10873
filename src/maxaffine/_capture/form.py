"""A layer as one max-affine spline: all of its pieces, not only those that win at an input."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._capture.capture import capture
from maxaffine._graph import Contest, Graph, Knots, Linearization, Step, Value, in_float64
from maxaffine._spline import MaxAffineSpline
from maxaffine.errors import BadInput, NotPiecewiseAffine

ROUNDING = 1e-9  # of the largest factor, in float64
PARTS = "take the form of each part by itself, or use maxaffine.capture for the whole"
REACH = 2.0  # beyond the outermost knots, where their distance is not known


def max_affine_form(
    layer: nn.Module | Callable[[Tensor], Tensor],
    input_shape: Sequence[int],
    *,
    skip: nn.Module | None = None,
    dtype: torch.dtype | None = None,
    max_elements: int = 2**26,
) -> MaxAffineSpline:
    r"""Slopes and offsets of a layer that has one convex piecewise-affine operator at most.

    With W x + b the affine operators before it, the form is

    .. math::
        \text{nothing else: } & A[k, 1] = W[k],\; B[k, 1] = b[k] \\
        \text{activation with slopes } s_r \text{: } & A[k, r] = s_r W[k],\; B[k, r] = s_r b[k] \\
        \text{max-pooling over } P_k \text{: } & A[k, r] = W[i],\; B[k, r] = b[i],\; i = P_k[r] \\
        \text{a skip } C x + c \text{: } & + C[k] \text{ and } + c[k] \text{ on every piece}

    The layer is captured, so it may be any module: a chain, a residual block, functions, operators of your own. After
    its piecewise-affine operator it may move the units, scale them by what is not negative, and add what is affine in
    the input.

    The pieces of a pooling window come in raster order. Padding is not a piece: a window at the border has fewer than
    R, the missing ones come last, repeat its first piece and are marked in `present`, so that they never win.

    Args:
        layer: The layer, or a function of one tensor, as torch.abs. It is left as it is.
        input_shape: Shape of one input, without the batch dimension; D is its product.
        skip: A module from the same input to the same output shape, added to the layer's output; `nn.Identity()` for
            the plain residual connection.
        dtype: Of the result; by default that of the layer's parameters, or torch's default where it has none.
        max_elements: Most numbers that the dense slopes may hold.

    Returns:
        A spline of K units, R pieces and D inputs, a copy without link to the layer; `output_shape` is the shape of
        the K units.

    Raises:
        NotPiecewiseAffine: The layer is not piecewise affine, not convex, or composes several splines.
        CaptureError: The layer does not take such inputs, or the skip ends in another shape.
        ShapeMismatch: dtype is not that of the layer.
        BadInput: An impossible input_shape or dtype; NaN in the parameters; more than max_elements numbers.

    Source: Balestriero and Baraniuk, Mad Max (arXiv 1805.06576), the propositions on the operators of a deep network.

    >>> layer = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)).eval()
    >>> form = max_affine_form(layer, (1, 6, 6))
    >>> x = torch.randn(5, 1, 6, 6)
    >>> form, torch.allclose(form(x.flatten(1)).view(5, *form.output_shape), layer(x), atol=1e-6)
    (MaxAffineSpline(units=8, pieces=4, in_features=36), True)
    """  # noqa: DOC502
    module: nn.Module = layer if isinstance(layer, nn.Module) else _Function(layer)
    whole = module if skip is None else _Residual(module, skip)
    like = _example(input_shape, whole, dtype)
    net = capture(whole, like)
    graph, features = net.graph, like[0].numel()
    if len(graph.outputs) != 1:
        raise BadInput(f"layer: it has {len(graph.outputs)} outputs; give one with a single output")
    step, shape = _switching(graph), graph.values[graph.outputs[0]].units
    pieces = 1 if step is None else step.operator.traits.pieces
    rows = prod(shape) * pieces
    if rows * features > max_elements:
        raise BadInput(
            f"max_elements: the dense slopes hold {rows} x {features} = {rows * features:,} numbers, more than"
            f" {max_elements:,}; give a smaller input_shape, raise max_elements, or use maxaffine.capture (matrix-free)"
        )
    if step is None:
        slopes, offsets = _matrix(graph, graph.inputs[0], like)
        return MaxAffineSpline(slopes[:, None], offsets[:, None], output_shape=shape)
    slopes, offsets, present = _pieces(graph, step, like)
    # s max_r (a_r x + b_r) + C x + c = max_r ((s a_r + C) x + s b_r + c), for s is not negative.
    place, scale, slopes_beside, offsets_beside = _after(graph, step, like)
    slopes = slopes[place] * scale[:, None, None] + slopes_beside[:, None]
    offsets, present = offsets[place] * scale[:, None] + offsets_beside[:, None], present[place]
    return MaxAffineSpline(slopes, offsets, present=None if present.all() else present, output_shape=shape)


class _Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class _Residual(nn.Module):
    """A layer and what is added to it."""

    def __init__(self, layer: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.layer, self.skip = layer, skip

    def forward(self, x: Tensor) -> Tensor:
        found, beside = self.layer(x), self.skip(x)
        if found.shape != beside.shape:
            ends = tuple(beside.shape[1:]), tuple(found.shape[1:])
            raise ValueError("skip ends in shape {} but the layer in {}; make them equal".format(*ends))
        return found + beside


def _example(input_shape: Sequence[int], module: nn.Module, dtype: torch.dtype | None) -> Tensor:
    """Two inputs of zeros with the dtype and device of the module."""
    shape = tuple(input_shape)
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise BadInput(f"input_shape is {shape}; give positive integers, the shape of one input without the batch")
    if dtype is not None and not dtype.is_floating_point:
        raise BadInput(f"dtype is {dtype}; give a floating-point one")
    tensors = (*module.parameters(), *module.buffers())
    first = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
    return torch.zeros(2, *shape, dtype=dtype or first.dtype, device=first.device)


def _switching(graph: Graph) -> Step | None:
    """The one step with several pieces, if any."""
    # It must be convex, so that its value is the largest of its pieces, and each unit a function of one entry or the
    # winner among some, so that its pieces are the same at every input.
    steps = [step for step in graph.steps if step.piecewise]
    for number, step in enumerate(steps):
        record = step.records[0]
        if number:
            reason = f"it composes another spline with {steps[0].records[0].name}: such a form has pieces without end"
            cure = PARTS
        elif not record.convex:
            reason = "it is not convex, so it is not the largest of its pieces"
            cure = "use maxaffine.capture, which needs no convexity"
        elif not isinstance(step.operator.boundaries(), Knots | Contest):
            reason, cure = "which of two values is larger does not say what its pieces are", "stack them and use amax"
        else:
            continue
        raise NotPiecewiseAffine(record.kind, reason, cure, record.module_path, record.source)
    return steps[0] if steps else None


def _matrix(graph: Graph, source: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """An affine graph as a matrix (K, D) of one of its inputs, the others at zero, and offsets (K,)."""
    # The value at zero is the offset.
    value, features = graph.values[graph.outputs[0]], like[0].numel()
    offsets = value.to_rows(graph.run(_zeros(graph, 1, like))[0])[0]
    if source not in graph.outputs and not any(source in step.inputs for step in graph.steps):
        return like.new_zeros(len(offsets), features), offsets
    if len(offsets) <= features:  # by rows, else by columns: whichever are fewer
        units = torch.eye(len(offsets), dtype=like.dtype, device=like.device)
        cotangents = torch.stack([value.from_rows(unit[None]) for unit in units])
        pulled = Linearization(graph, _zeros(graph, 1, like)).pull([cotangents])
        return pulled[source].reshape(len(offsets), features), offsets
    columns = torch.eye(features, dtype=like.dtype, device=like.device).view(features, *like.shape[1:])
    zeros = _zeros(graph, features, like)
    tangents = [columns if number == source else zero for number, zero in zip(graph.inputs, zeros, strict=True)]
    return value.to_rows(Linearization(graph, zeros).push(tangents, offset=False)[0]).T, offsets


def _zeros(graph: Graph, count: int, like: Tensor) -> list[Tensor]:
    """The graph's inputs for so many samples, all of them zero."""
    values = [graph.values[number] for number in graph.inputs]
    return [value.from_rows(like.new_zeros(count, prod(value.units))) for value in values]


def _pieces(graph: Graph, step: Step, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes (U, R, D) and offsets (U, R) of the step's units, and which of their pieces there are (U, R)."""
    matrix, offset = _matrix(graph.part(step.inputs[:1]), graph.inputs[0], like)
    before, after, boundaries = graph.values[step.inputs[0]], graph.values[step.result], step.operator.boundaries()
    if isinstance(boundaries, Contest):
        return _select(boundaries, before, after, matrix, offset)
    # A unit is a function of its entry alone, whose slopes and offsets show between its knots.
    knots = boundaries.knots if isinstance(boundaries, Knots) else ()
    ends = [knots[0] - REACH, *knots, knots[-1] + REACH] if knots else [0.0, 0.0]
    found = [_scalar(step, before, after, offset, (low + high) / 2) for low, high in pairwise(ends)]
    slopes, offsets = (torch.stack(parts, 1) for parts in zip(*found, strict=True))
    # s (w x + b) + t has the slope s w and the offset s b + t.
    pieces = slopes * offset[:, None] + offsets
    return slopes[..., None] * matrix[:, None], pieces, torch.ones_like(pieces, dtype=torch.bool)


def _select(
    contest: Contest, before: Value, after: Value, matrix: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Units that select entries: their pieces are the entries' own rows, and what a window lacks goes to its end."""
    columns = torch.cat([matrix, offset[:, None]], 1).T  # as if each were a sample
    entries = contest.entries(before.from_rows(columns))
    entries = torch.stack([after.to_rows(part) for part in entries.unbind(-1)], -1)
    # What a window lacks is infinite in every row, and so in the last, that of the offsets.
    present = ~entries[-1].isinf()
    if not present.any(1).all():
        raise BadInput("input_shape: a pooling window holds padding only; use less padding or dilation")
    order = present.byte().argsort(dim=1, descending=True, stable=True)
    present, entries = present.gather(1, order), entries.gather(2, order.expand_as(entries))
    entries = torch.where(present, entries, entries[..., :1])
    return entries[:-1].permute(1, 2, 0), entries[-1], present


def _scalar(step: Step, before: Value, after: Value, like: Tensor, entry: float) -> tuple[Tensor, Tensor]:
    """The slope and the offset of every unit, (U,), where all entries are this one."""
    inputs = [before.from_rows(torch.full_like(like, entry)[None])]
    local = step.operator.local(inputs, step.operator(*inputs))
    slopes, shifts = local.mv([torch.ones_like(inputs[0])])[0], local.offsets()[0]
    zeros = torch.zeros_like(inputs[0])
    parts = (zeros if part is None else part.expand_as(zeros) for part in (slopes, shifts))
    slope, shift = (after.to_rows(part)[0] for part in parts)
    return slope, shift


def _after(graph: Graph, step: Step, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of what follows the step, out[k] = scale[k] unit[place[k]] + C[k] x + c[k]: place, scale, C and c."""
    units, value, source = graph.values[step.result], graph.values[graph.outputs[0]], graph.inputs[0]
    tail, number = graph.part(graph.outputs, (step.result, source)), prod(units.units)
    # Three tangents show a row of one entry: it sums to that entry, weighs the units' numbers by it, and random ones.
    wide = like.double()
    drawn = torch.randn(number, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    probes = torch.stack([torch.ones_like(drawn), torch.arange(number) + 1.0, drawn]).to(like.device)
    zeros = _zeros(tail, 3, wide)
    found = Linearization(in_float64(tail), zeros).push([units.from_rows(probes), *zeros[1:]], offset=False)
    scale, weighed, checked = value.to_rows(found[0])
    # With one entry s at k the ones give s and the numbers s (k + 1): k is their ratio. What random numbers give must
    # be s times the one at k, which a row with other entries meets by accident only.
    place = torch.where(scale == 0, 0, weighed / scale - 1).round().long().clamp(0, number - 1)
    alone = (checked - scale * probes[2][place]).abs() <= ROUNDING * scale.abs().max()
    if not (alone & (scale >= 0)).all():
        record = step.records[0]
        reason = "what follows it mixes its units, or turns them around, so that they are not the largest of R pieces"
        raise NotPiecewiseAffine(record.kind, reason, PARTS, record.module_path, record.source)
    return place, scale.to(like.dtype), *_matrix(tail, source, like)
