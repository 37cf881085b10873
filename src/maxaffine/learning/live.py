"""The templates of a module that is being trained, differentiable in its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine.capture import capture
from maxaffine.errors import BadInput
from maxaffine.learning.classifier import evaluating, first_samples, logits_of, recording_gradients, writable


def require_piecewise_affine(model: nn.Module, x: Any) -> None:
    """Refuse a module that `capture` refuses: what has no affine map has no templates.

    Args:
        model: The module, not wrapped.
        x: Its inputs.

    Raises:
        NotPiecewiseAffine: At the first operator that has no exact piecewise-affine form.
    """
    args, kwargs = first_samples(x, 2)
    with evaluating(model), torch.autocast(_device(model), enabled=False):
        capture(model, tree_map(_like(model), kwargs or args))


def live_templates(model: nn.Module, x: Any, samples: int, classes: Sequence[int] | None) -> Tensor:
    """The rows A[x]_c by autograd, with a graph behind them where gradients are being recorded.

    Args:
        model: A piecewise-affine classifier, not wrapped; run in evaluation mode.
        x: Its inputs.
        samples: How many of them are used at most.
        classes: Which rows; all by default.

    Returns:
        (n, C, D), over all floating-point inputs together.

    Raises:
        BadInput: The outputs are no (N, C) logits of two or more classes, or a class is not among them.
    """
    recording = torch.is_grad_enabled()
    with recording_gradients(), evaluating(model), torch.autocast(_device(model), enabled=False):
        args, kwargs = tree_map(_like(model), first_samples(x, samples))
        leaves = [item.requires_grad_() for item in tree_leaves((args, kwargs)) if _is_floating(item)]
        # Copies: a training pass between this one and its backward would change the running statistics in place.
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        own_args, own_kwargs = tree_map(writable, (args, kwargs))
        logits = logits_of(functional_call(model, buffers, own_args, own_kwargs))
        chosen = _chosen(logits, classes)
        totals = logits.sum(0)
        grads = [torch.autograd.grad(totals[c], leaves, create_graph=recording, retain_graph=True) for c in chosen]
    return torch.stack([torch.cat([grad.flatten(1) for grad in row], dim=1) for row in grads], dim=1)


def _chosen(logits: Tensor, classes: Sequence[int] | None) -> Sequence[int]:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise BadInput(
            f"model: its outputs have shape {tuple(logits.shape)}, not (N, C) with two or more classes; pool or "
            "flatten them in the model"
        )
    if classes is None:
        return range(logits.shape[1])
    if wrong := [c for c in classes if not 0 <= c < logits.shape[1]]:
        raise BadInput(f"classes: {wrong} are not among the model's {logits.shape[1]} classes")
    return classes


def _like(model: nn.Module) -> Any:
    """Fresh leaves in the precision of the parameters; under autocast a batch may come in another."""
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), None)

    def convert(item: Any) -> Any:
        return item.detach().to(dtype or item.dtype).clone() if _is_floating(item) else item

    return convert


def _is_floating(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()


def _device(model: nn.Module) -> str:
    return next((weight.device.type for weight in model.parameters()), "cpu")
