"""Affine layers of torch.nn, and the exact matrix and offset of any chain of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maxaffine.errors import ShapeMismatch
from maxaffine.spline.steps import StackedRecurrence, Step, lookup, refuse

Shape = tuple[int, ...]


def _affine_layers() -> dict[type[nn.Module], int]:
    """Affine layer types, and how many dimensions one input must have (0: torch itself refuses a wrong number)."""
    table: dict[type[nn.Module], int] = dict.fromkeys(
        (nn.Linear, nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
        + (nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.AlphaDropout, nn.FeatureAlphaDropout)
        + (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
        0,
    )
    table |= {nn.Unfold: 3, nn.Fold: 2, StackedRecurrence: 1}
    for dims in (1, 2, 3):
        for name in ("Conv", "ConvTranspose", "AvgPool", "AdaptiveAvgPool"):
            table[getattr(nn, f"{name}{dims}d")] = dims + 1
        for name in ("ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad"):
            table[getattr(nn, f"{name}{dims}d")] = dims + 1
        table[getattr(nn, f"BatchNorm{dims}d")] = 0
    return table


AFFINE = _affine_layers()


def probe(step: Step, like: Tensor, dims: int = 0) -> Tensor:
    """Run one layer on zeros, only to learn the shape of its output.

    Args:
        step: The layer.
        like: A batch of two inputs.
        dims: How many dimensions one input must have; torch would take a batch of another number for a single input.

    Returns:
        A batch of two outputs.

    Raises:
        ShapeMismatch: The layer does not take inputs of this shape, dtype or device.
    """
    shape, name = tuple(like.shape[1:]), type(step.layer).__name__ + (f" at {step.path!r}" if step.path else "")
    cure = "input_shape is the shape of one input, without the batch dimension"
    if dims and len(shape) != dims:
        raise ShapeMismatch(f"input_shape: {name} takes inputs of {dims} dimensions but meets {shape}; {cure}")
    try:
        with torch.no_grad():
            output = step.layer(torch.zeros_like(like))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ShapeMismatch(f"input_shape: {name} cannot take {shape} ({like.dtype}): {error}; {cure}") from error
    if output.ndim == 0 or output.shape[0] != like.shape[0]:
        raise ShapeMismatch(f"input_shape: {name} mixes the batch dimension into its output; keep dimension 0 apart")
    return output


def chain_shape(steps: Sequence[Step], like: Tensor) -> Shape:
    """Output shape of a chain of affine layers.

    Args:
        steps: The layers.
        like: A batch of two inputs.

    Returns:
        Shape of one output.
    """
    for step in steps:
        dims = lookup(AFFINE, step.layer)
        if dims is None:
            refuse(step)
        like = probe(step, like, dims)
    return tuple(like.shape[1:])


def affine_operator(steps: Sequence[Step], like: Tensor) -> tuple[Tensor, Tensor]:
    r"""Matrix and offset of a chain of affine layers f.

    .. math:: W[p] = \nabla_x f(x)_p, \qquad b = f(0)

    The gradient of an affine function is its matrix exactly; f(e_d) - f(0) would lose digits to the offset.

    Args:
        steps: The layers.
        like: A batch of inputs; only its shape, dtype and device count.

    Returns:
        W (P, D) and b (P,), without gradient history.
    """
    with torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            offset = _run(steps, torch.zeros_like(like))[0].flatten()
        by_rows = offset.numel() <= like[0].numel()
        matrix = _matrix_by_rows(steps, like, offset.numel()) if by_rows else _matrix_by_columns(steps, like)
    return matrix, offset


def _matrix_by_rows(steps: Sequence[Step], like: Tensor, outputs: int) -> Tensor:
    """W^T applied to the unit vectors of the output, in a batch of P: the cheaper way where P <= D."""
    x = like.new_zeros(outputs, *like.shape[1:]).requires_grad_()
    y = _run(steps, x.clone())
    return torch.autograd.grad(y, x, torch.eye(outputs).to(y).view(y.shape))[0].view(outputs, -1)


def _matrix_by_columns(steps: Sequence[Step], like: Tensor) -> Tensor:
    """W applied to the unit vectors of the input, in a batch of D: v -> W^T v is linear, and its gradient is W."""
    inputs = like[0].numel()
    x = like.new_zeros(inputs, *like.shape[1:]).requires_grad_()
    y = _run(steps, x.clone())
    v = torch.zeros_like(y, requires_grad=True)
    (pulled_back,) = torch.autograd.grad(y, x, v, create_graph=True)
    return torch.autograd.grad(pulled_back, v, torch.eye(inputs).to(x).view(x.shape))[0].view(inputs, -1).T


def _run(steps: Sequence[Step], value: Tensor) -> Tensor:
    for step in steps:
        value = step.layer(value)
    return value
