"""The templates of a module that is being trained, differentiable in its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._capture import capture
from maxaffine._learning.classifier import (
    as_written,
    first_samples,
    logits_of,
    recording_gradients,
    writable,
)
from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput


def require_piecewise_affine(model: nn.Module, x: Any) -> None:
    """Refuse a module without templates, and one whose gradients are not its templates."""
    # A module may cut its graph (detach, no_grad) or put other derivatives in the place of its own (straight-through
    # estimators), so one combination of its templates is compared with that of the captured network. The inputs for
    # that are normal random numbers, at which no unit stands on a kink.
    as_written(_compare_with_captured, model, x)


def live_templates(model: nn.Module, x: Any, samples: int, classes: Sequence[int] | None) -> Tensor:
    """The rows A[x]_c by autograd, (n, C, D) over all floating-point inputs, differentiable where recorded."""
    return as_written(_rows, model, first_samples(x, samples), classes)


def _compare_with_captured(model: nn.Module, x: Any) -> None:
    with evaluating(model), torch.autocast(_device(model), enabled=False):
        args, kwargs = tree_map(_like(model), first_samples(x, 2))
        net = capture(model, kwargs or args)
    generator = torch.Generator().manual_seed(0)

    def normal(item: Any) -> Any:
        return torch.randn(item.shape, generator=generator).to(item) if _is_floating(item) else item

    args, kwargs = tree_map(normal, (args, kwargs))
    outputs = net(kwargs or args)
    logits = logits_of(outputs)
    place = next(number for number, item in enumerate(tree_leaves(outputs)) if item is logits)
    weights = normal(logits)
    expected = _join(net.affine_map(kwargs or args, output=place).rmv(weights))
    try:
        found = _join(_gradients(model, (args, kwargs), lambda own: [(weights * own).sum()])[0])
    except RuntimeError as error:
        raise BadInput(f"model: autograd does not give its templates: {error}") from error
    if (found - expected).norm() > torch.finfo(logits.dtype).eps ** 0.5 * expected.norm():
        raise BadInput(
            "model: autograd does not give its templates: the gradients of its outputs are not the slopes of what it"
            " computes. Does it cut the graph (detach, no_grad), or define a derivative of its own? Let it be"
            ' differentiable from the inputs on, or use on="classifier"'
        )


def _rows(model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]], classes: Sequence[int] | None) -> Tensor:
    def wanted(logits: Tensor) -> list[Tensor]:
        totals = logits.sum(0)
        return [totals[c] for c in _choose(logits, classes)]

    rows = _gradients(model, inputs, wanted)
    return torch.stack([torch.cat([part.flatten(1) for part in row], dim=1) for row in rows], dim=1)


def _gradients(
    model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]], wanted: Callable[[Tensor], list[Tensor]]
) -> list[tuple[Tensor, ...]]:
    """The gradients of some functions of the logits with respect to the floating-point inputs, each in turn."""
    recording = torch.is_grad_enabled()
    with recording_gradients(), evaluating(model), torch.autocast(_device(model), enabled=False):
        args, kwargs = tree_map(_like(model), inputs)
        leaves = [item.requires_grad_() for item in tree_leaves((args, kwargs)) if _is_floating(item)]
        # Copies: a training pass between this one and its backward would change the running statistics in place.
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        own_args, own_kwargs = tree_map(writable, (args, kwargs))
        values = wanted(logits_of(functional_call(model, buffers, own_args, own_kwargs)))
        gradient = partial(torch.autograd.grad, create_graph=recording, retain_graph=True, materialize_grads=True)
        return [gradient(value, leaves) for value in values]


def _join(parts: Tensor | Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().double().flatten() for part in ([parts] if isinstance(parts, Tensor) else parts)])


def _choose(logits: Tensor, classes: Sequence[int] | None) -> Sequence[int]:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise BadInput(
            f"model: its outputs have shape {tuple(logits.shape)}, not (N, C) with two or more classes; pool or "
            "flatten them in the model"
        )
    if classes is None:
        return range(logits.shape[1])
    if wrong := [c for c in classes if not 0 <= c < logits.shape[1]]:
        raise BadInput(f"classes: {wrong} are not among the model's {logits.shape[1]} classes; count them from 0")
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
