"""The slopes of a model in training: gradients of its outputs at given inputs, differentiable in its parameters."""

import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from maxaffine._capture import capture
from maxaffine._learning.classifier import as_written, first_samples, logits_of, recording_gradients, writable
from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput

Inputs = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments of a model


class LivePenalty:
    """A weighted penalty on the slopes of a model in training, at some samples of each batch."""

    def __init__(self, weight: float, samples: int) -> None:
        if not 0 <= weight < math.inf:
            raise BadInput(f"weight: {weight} is not a finite number of at least 0; 0 turns the penalty off")
        if samples < 1:
            raise BadInput(f"samples: {samples} is less than 1; give how many of each batch to use")
        self.weight = weight
        self.samples = samples
        self._known: tuple[weakref.ref[nn.Module], str] | None = None

    def __call__(self, model: nn.Module, x: Any = None) -> Tensor:
        """Compute the penalty."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what is remembered of the last model, which belongs to this process."""
        return {**self.__dict__, "_known": None}

    def _first(self, module: nn.Module, x: Any, cure: str) -> Inputs:
        """The samples that count; the first call with a model compares its gradients with its captured slopes."""
        if self._recall(module) is None:
            as_written(_compare_with_captured, module, x, cure)
            self._remember(module, "")
        inputs = first_samples(x, self.samples)
        as_written(_require_numbers, inputs)
        return inputs

    def _remember(self, module: nn.Module, path: str) -> None:
        self._known = (weakref.ref(module), path)

    def _recall(self, module: nn.Module) -> str | None:
        if self._known is None or self._known[0]() is not module:
            return None
        return self._known[1]


def gradients(
    model: nn.Module, inputs: Inputs, wanted: Callable[[Tensor], list[Tensor]], batch_statistics: bool = False
) -> list[tuple[Tensor, ...]]:
    """The gradients of some functions of the logits with respect to the floating-point inputs, each in turn."""
    recording = torch.is_grad_enabled()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training] if batch_statistics else []
    with recording_gradients(), evaluating(model), torch.autocast(device_of(model), enabled=False):
        for norm in norms:
            norm.training = True
        args, kwargs = tree_map(like(model), inputs)
        leaves = [item.requires_grad_() for item in tree_leaves((args, kwargs)) if is_floating(item)]
        # Copies: a training pass between this one and its backward would change the running statistics in place.
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        own_args, own_kwargs = tree_map(writable, (args, kwargs))
        values = wanted(logits_of(functional_call(model, buffers, own_args, own_kwargs)))
        gradient = partial(torch.autograd.grad, create_graph=recording, retain_graph=True, materialize_grads=True)
        return [gradient(value, leaves) for value in values]


def as_vectors(parts: Sequence[Tensor]) -> Tensor:
    """One row per sample over all inputs, (n, D)."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def _require_numbers(inputs: Inputs) -> None:
    """Refuse an empty batch and one with NaN or infinity, as `capture` does at the first call."""
    floating = [item for item in tree_leaves(inputs) if is_floating(item)]
    if not all(item.numel() for item in floating):
        raise BadInput("x: the batch is empty; give at least one sample")
    if not all(bool(item.isfinite().all()) for item in floating):
        raise BadInput("x: it holds NaN or infinity, where no affine map exists; clean the data")


def _compare_with_captured(model: nn.Module, x: Any, cure: str) -> None:
    """Refuse a module without templates, and one whose gradients are not its templates."""
    # A module may cut its graph (detach, no_grad) or put other derivatives in the place of its own (straight-through
    # estimators), so one combination of its templates is compared with that of the captured network. The inputs for
    # that are normal random numbers, at which no unit stands on a kink.
    with evaluating(model), torch.autocast(device_of(model), enabled=False):
        args, kwargs = tree_map(like(model), first_samples(x, 2))
        net = capture(model, kwargs or args)
    generator = torch.Generator().manual_seed(0)

    def normal(item: Any) -> Any:
        return torch.randn(item.shape, generator=generator).to(item) if is_floating(item) else item

    args, kwargs = tree_map(normal, (args, kwargs))
    outputs = net(kwargs or args)
    logits = logits_of(outputs)
    place = next(number for number, item in enumerate(tree_leaves(outputs)) if item is logits)
    weights = normal(logits)
    expected = _join(net.affine_map(kwargs or args, output=place).rmv(weights))
    try:
        found = _join(gradients(model, (args, kwargs), lambda own: [(weights * own).sum()])[0])
    except RuntimeError as error:
        raise BadInput(f"model: autograd does not give its templates: {error}") from error
    if (found - expected).norm() > torch.finfo(logits.dtype).eps ** 0.5 * expected.norm():
        raise BadInput(
            "model: autograd does not give its templates: the gradients of its outputs are not the slopes of what it"
            f" computes. Does it cut the graph (detach, no_grad), or define a derivative of its own? {cure}"
        )


def _join(parts: Tensor | Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().double().flatten() for part in ([parts] if isinstance(parts, Tensor) else parts)])


def like(model: nn.Module) -> Any:
    """Fresh leaves in the precision of the parameters; under autocast a batch may come in another."""
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), None)

    def convert(item: Any) -> Any:
        return item.detach().to(dtype or item.dtype).clone() if is_floating(item) else item

    return convert


def is_floating(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()


def device_of(model: nn.Module) -> str:
    return next((weight.device.type for weight in model.parameters()), "cpu")
