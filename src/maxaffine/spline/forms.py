"""Layers of a network as max-affine splines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from maxaffine.errors import BadInput, NotPiecewiseAffine, ShapeMismatch
from maxaffine.spline.affine import AFFINE, affine_operator, chain_shape
from maxaffine.spline.pieces import PIECEWISE, pieces_of
from maxaffine.spline.spline import MaxAffineSpline
from maxaffine.spline.steps import Step, lookup, refuse, unroll


def max_affine_form(
    layer: nn.Module | Callable[..., Tensor],
    input_shape: Sequence[int],
    *,
    skip: nn.Module | None = None,
    dtype: torch.dtype | None = None,
    max_elements: int = 2**26,
) -> MaxAffineSpline:
    r"""Slopes and offsets of a layer: any chain of affine layers, then at most one convex piecewise-affine layer.

    With W x + b the chain, the form of what follows it is

    .. math::
        \text{nothing: } & A[k, 1] = W[k],\; B[k, 1] = b[k] \\
        \text{activation with slopes } s_r \text{: } & A[k, r] = s_r W[k],\; B[k, r] = s_r b[k] \\
        \text{max-pooling over } P_k \text{: } & A[k, r] = W[i],\; B[k, r] = b[i],\; i = P_k[r] \\
        \text{a skip } C x + c \text{: } & + C[k] \text{ and } + c[k] \text{ on every piece}

    Affine layers: Linear, Conv and ConvTranspose 1-3d, BatchNorm in eval mode, AvgPool and AdaptiveAvgPool 1-3d,
    Upsample, padding, Flatten, Unflatten, Fold, Unfold, shuffles, Identity, Dropout in eval mode. Piecewise: ReLU
    (slopes 0, 1), LeakyReLU, PReLU and RReLU in eval mode (v, 1), Abs (-1, 1), MaxPool and AdaptiveMaxPool 1-3d,
    Maxout. `nn.Sequential` chains them; `nn.RNNCell(nonlinearity="relu")` takes the stacked input [x_t, h_{t-1}].

    The pieces of a pooling window come in raster order. Padding is no piece: a window at the border has fewer than R,
    the missing ones come last, repeat its first piece and are marked in `present`, so that they never win.

    Args:
        layer: The layer, or torch.abs or torch.relu. It is left as it is.
        input_shape: Shape of one input, without the batch dimension; D is its product.
        skip: A chain of affine layers from the same input to the same output shape, added to the layer's output;
            `nn.Identity()` for the plain residual connection.
        dtype: Of the result; by default that of the layer's parameters, or torch's default where it has none.
        max_elements: Most numbers that the dense slopes may hold.

    Returns:
        A spline of K units, R pieces and D inputs, a copy without link to the layer; `output_shape` is the shape of
        the K units.

    Raises:
        NotPiecewiseAffine: A layer is not piecewise affine, not convex, not in eval mode, or not last.
        ShapeMismatch: A layer does not take what it is given, or the skip ends in another shape.
        BadInput: An impossible input_shape or dtype; NaN in the parameters; more than max_elements numbers.

    Source: Balestriero and Baraniuk, Mad Max (arXiv 1805.06576), the propositions on the operators of a deep network.

    >>> layer = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2))
    >>> form = max_affine_form(layer, (1, 6, 6))
    >>> x = torch.randn(5, 1, 6, 6)
    >>> form, torch.allclose(form(x.flatten(1)).view(5, *form.output_shape), layer(x), atol=1e-6)
    (MaxAffineSpline(units=8, pieces=4, in_features=36), True)
    """  # noqa: DOC502
    steps, skip_steps = list(unroll(layer)), [] if skip is None else list(unroll(skip))
    like = _example(input_shape, [step.layer for step in (*steps, *skip_steps)], dtype)
    affine, last = _split(steps)
    inner = like.new_empty(2, *chain_shape(affine, like))
    pieces = pieces_of(last, inner)
    if skip is not None and (ends := chain_shape(skip_steps, like)) != pieces.output_shape:
        raise ShapeMismatch(f"skip ends in shape {ends} but the layer in {pieces.output_shape}; make them equal")
    _check_size(max(pieces.rows.numel(), inner[0].numel()), like[0].numel(), max_elements)
    matrix, offset = affine_operator(affine, like)
    slopes, offsets = matrix[pieces.rows] * pieces.factors[..., None], offset[pieces.rows] * pieces.factors
    if skip is not None:
        matrix, offset = affine_operator(skip_steps, like)
        slopes, offsets = slopes + matrix[:, None], offsets + offset[:, None]
    return MaxAffineSpline(slopes, offsets, present=pieces.present, output_shape=pieces.output_shape)


def _example(input_shape: Sequence[int], layers: Sequence[nn.Module], dtype: torch.dtype | None) -> Tensor:
    """Two inputs of zeros with the dtype and device of the layers."""
    shape = tuple(input_shape)
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise BadInput(f"input_shape is {shape}; give positive integers, the shape of one input without the batch")
    if dtype is not None and not dtype.is_floating_point:
        raise BadInput(f"dtype is {dtype}; give a floating-point one")
    tensors = chain.from_iterable((*layer.parameters(), *layer.buffers()) for layer in layers)
    first = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
    return torch.zeros(2, *shape, dtype=dtype or first.dtype, device=first.device)


def _split(steps: Sequence[Step]) -> tuple[Sequence[Step], Step | None]:
    """The affine steps, and the piecewise-affine one that ends the chain, if any."""
    for place, step in enumerate(steps):
        if lookup(PIECEWISE, step.layer) is None:
            continue
        if place == len(steps) - 1:
            return steps[:place], step
        after = steps[place + 1]
        if lookup(AFFINE, after.layer) is None and lookup(PIECEWISE, after.layer) is None:
            refuse(after)
        raise NotPiecewiseAffine(
            type(after.layer).__name__,
            f"it follows {type(step.layer).__name__}, which must come last: what follows it composes two splines",
            "take the form of each part by itself, or use maxaffine.capture for the whole",
            after.path,
        )
    return steps, None


def _check_size(rows: int, in_features: int, max_elements: int) -> None:
    if rows * in_features > max_elements:
        raise BadInput(
            f"max_elements: the dense slopes hold {rows} x {in_features} = {rows * in_features:,} numbers, more than "
            f"{max_elements:,}; give a smaller input_shape, raise max_elements, or use maxaffine.capture (matrix-free)"
        )
