"""The pieces of the convex piecewise-affine layers, as multiples of rows of the affine operator before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine.errors import BadInput, NotPiecewiseAffine
from maxaffine.spline.affine import Shape, probe
from maxaffine.spline.layers import Abs, Maxout
from maxaffine.spline.steps import Step, lookup, refuse
from maxaffine.spline.windows import adaptive_window, pool_window, window_rows


@dataclass(frozen=True, eq=False)
class Pieces:
    """Piece r of unit k is factors[k, r] times row rows[k, r] of the affine operator.

    Args:
        rows: (K, R) int64.
        factors: What broadcasts against (K, R).
        present: (K, R) bool, or None where every unit has all R pieces.
        output_shape: Shape of the K units.
    """

    rows: Tensor
    factors: Tensor
    present: Tensor | None
    output_shape: Shape


Rule = Callable[[Step, Tensor], Pieces]


def _scaled(factors: Tensor, like: Tensor) -> Pieces:
    """One row per unit, multiplied by each of the factors (R,) or (K, R) in turn."""
    shape = tuple(like.shape[1:])
    rows = torch.arange(prod(shape), device=like.device)[:, None].expand(-1, factors.shape[-1])
    return Pieces(rows, factors, None, shape)


def _relu(step: Step, like: Tensor) -> Pieces:
    return _scaled(like.new_tensor([0.0, 1.0]), like)


def _abs(step: Step, like: Tensor) -> Pieces:
    return _scaled(like.new_tensor([-1.0, 1.0]), like)


def _leaky_relu(step: Step, like: Tensor) -> Pieces:
    layer: Any = step.layer
    return _leaky(step, like.new_tensor(layer.negative_slope), like)


def _rrelu(step: Step, like: Tensor) -> Pieces:
    layer: Any = step.layer
    return _leaky(step, like.new_tensor((layer.lower + layer.upper) / 2), like)


def _prelu(step: Step, like: Tensor) -> Pieces:
    probe(step, like)
    layer: Any = step.layer
    weight = layer.weight.detach()
    if weight.numel() > 1:
        # One slope per channel, and the channel is the first dimension of an input.
        weight = weight.view(-1, *[1] * (like.ndim - 2))
    return _leaky(step, weight.expand(like.shape[1:]).reshape(-1), like)


def _leaky(step: Step, slope: Tensor, like: Tensor) -> Pieces:
    """max(v x, x), the slope v being one number or one per unit."""
    if bool((slope > 1).any()):
        raise NotPiecewiseAffine(
            type(step.layer).__name__,
            f"a negative slope of {slope.max().item():.6g} > 1 makes it concave: it is min(v x, x), not max(v x, x)",
            "keep the slope at or below 1, or use maxaffine.capture, which needs no convexity",
            step.path,
        )
    return _scaled(torch.stack([slope, torch.ones_like(slope)], dim=-1), like)


def _maxout(step: Step, like: Tensor) -> Pieces:
    layer: Any = step.layer
    rows = torch.arange(prod(like.shape[1:]), device=like.device).view(-1, layer.pieces)
    return Pieces(rows, like.new_ones(1), None, (*like.shape[1:-1], layer.units))


def _max_pool(step: Step, like: Tensor, dims: int) -> Pieces:
    layer: Any = step.layer
    outputs = _pool_output(step, like, dims)
    options = [_per_dim(v, dims) for v in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)]
    windows = [pool_window(*sizes) for sizes in zip(like.shape[2:], outputs[1:], *options, strict=True)]
    return _windows(like, outputs, windows)


def _adaptive_max_pool(step: Step, like: Tensor, dims: int) -> Pieces:
    outputs = _pool_output(step, like, dims)
    windows = [adaptive_window(*sizes) for sizes in zip(like.shape[2:], outputs[1:], strict=True)]
    return _windows(like, outputs, windows)


def _pool_output(step: Step, like: Tensor, dims: int) -> Shape:
    layer: Any = step.layer
    if layer.return_indices:
        name = type(layer).__name__
        raise NotPiecewiseAffine(name, "it also returns indices", "build it with return_indices=False", step.path)
    return tuple(probe(step, like, dims + 1).shape[1:])


def _per_dim(option: int | Sequence[int], dims: int) -> Sequence[int]:
    return [option] * dims if isinstance(option, int) else option


def _windows(like: Tensor, outputs: Shape, windows: list[Tensor]) -> Pieces:
    rows, present = window_rows(tuple(like.shape[1:]), windows)
    if not bool(present[:, 0].all()):
        raise BadInput("input_shape: a pooling window holds padding only; use less padding or dilation")
    full = bool(present.all())
    return Pieces(rows.to(like.device), like.new_ones(1), None if full else present.to(like.device), outputs)


PIECEWISE: dict[type[nn.Module], Rule] = {
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.PReLU: _prelu,
    nn.RReLU: _rrelu,
    Abs: _abs,
    Maxout: _maxout,
    nn.MaxPool1d: partial(_max_pool, dims=1),
    nn.MaxPool2d: partial(_max_pool, dims=2),
    nn.MaxPool3d: partial(_max_pool, dims=3),
    nn.AdaptiveMaxPool1d: partial(_adaptive_max_pool, dims=1),
    nn.AdaptiveMaxPool2d: partial(_adaptive_max_pool, dims=2),
    nn.AdaptiveMaxPool3d: partial(_adaptive_max_pool, dims=3),
}


def pieces_of(step: Step | None, like: Tensor) -> Pieces:
    """Pieces of the layer that ends a chain.

    Args:
        step: The layer, or None where the chain is affine to its end.
        like: A batch of two pre-activations; only its shape, dtype and device count.

    Returns:
        Pieces, a single one per unit without a layer.
    """
    if step is None:
        return _scaled(like.new_ones(1), like)
    rule = lookup(PIECEWISE, step.layer)
    if rule is None:
        refuse(step)
    return rule(step, like)
