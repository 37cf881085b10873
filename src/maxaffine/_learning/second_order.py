"""The curvature of a loss at the outputs, and what noise on the initial state adds to the loss to second order."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from maxaffine._capture import changed_states
from maxaffine._learning.classifier import as_written, recording_gradients, writable
from maxaffine._learning.live import device_of
from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput

Hessian = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A mean over samples, and its Hessian with respect to the outputs of each, (N, K) to (N, K, K)."""

    value: Callable[[Tensor, Any], Tensor]
    hessian: Hessian


def _half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets.reshape(outputs.shape)).square().flatten(1).sum(1).mean()


def _softmax_hessian(outputs: Tensor) -> Tensor:
    p = outputs.softmax(1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]


def _identity(outputs: Tensor) -> Tensor:
    return torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device).expand(len(outputs), -1, -1)


_NAMED = {
    "cross-entropy": Loss(F.cross_entropy, _softmax_hessian),
    "half-squared-error": Loss(_half_squares, _identity),
}


def known_loss(loss: Any, hessian: Hessian | None) -> Loss:
    """The loss that a name, a module of torch.nn or a function with its Hessian stands for."""
    named: Loss | None = _NAMED.get(loss) if isinstance(loss, str) else None
    if hessian is not None:
        value: Any = loss if named is None else named.value
        return Loss(value, hessian)
    if named is not None:
        return named
    # Labels, smoothed or not, are in no second derivative of the cross-entropy; weights and ignored labels are.
    if type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.reduction == "mean":
        return Loss(loss, _softmax_hessian)
    if type(loss) is nn.MSELoss and loss.reduction == "mean":  # the mean over outputs too, and squares not halved
        return Loss(
            lambda outputs, targets: loss(outputs, targets.reshape(outputs.shape)),
            lambda outputs: _identity(outputs) * 2 / outputs.shape[1],
        )
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    raise BadInput(
        f"loss: no second order is known for {name!r}; known are {', '.join(map(repr, _NAMED))}, nn.CrossEntropyLoss()"
        " and nn.MSELoss() with a mean and without weights. Of any other give hessian=, a function from the outputs"
        " (N, K) to the second derivatives of the loss of each sample (N, K, K)"
    )


@dataclass(frozen=True)
class StateMap:
    """The outputs at a batch (N, K), and how they move with the initial states: A_h (N, K, S)."""

    outputs: Tensor
    rows: Tensor

    def penalty(self, hessian: Hessian, sigma: float) -> Tensor:
        """sigma^2/(2N) sum_n tr(A_h^T H A_h), H the Hessian at the outputs."""
        # tr(A^T H A) = sum over c, d of H_cd <A_c, A_d>: the gram of the rows is smaller than the rows.
        found = (hessian(self.outputs) * (self.rows @ self.rows.mT)).sum((1, 2))
        return sigma**2 / 2 * found.mean()


def state_map(model: nn.Module, x: Any, argument: str | int | None) -> StateMap:
    """The map from the initial states at a batch, by one backward pass per output, in evaluation mode."""
    return as_written(_state_map, model, x, argument)


def _state_map(model: nn.Module, x: Any, argument: str | int | None) -> StateMap:
    recording = torch.is_grad_enabled()
    leaves: list[tuple[nn.Module, Tensor]] = []

    def leaf(module: nn.Module, name: str, state: Tensor) -> Tensor:
        leaves.append((module, state.detach().clone().requires_grad_()))
        return leaves[-1][1]

    # The fused recurrent layers of cuDNN have no second derivatives; those made of plain operators have.
    fused = any(item.is_cuda for item in model.parameters())
    plain = torch.backends.cudnn.flags(enabled=False) if fused else nullcontext()
    alike = torch.autocast(device_of(model), enabled=False)
    with recording_gradients(), plain, alike, changed_states(model, leaf, argument), evaluating(model):
        outputs = as_rows(run(model, x))
        wanted = [item for _, item in leaves]
        rows = [
            torch.autograd.grad(
                outputs[:, unit].sum(), wanted, create_graph=recording, retain_graph=True, materialize_grads=True
            )
            for unit in range(outputs.shape[1])
        ]
    fronts = [[by_sample(module, row) for (module, _), row in zip(leaves, parts, strict=True)] for parts in rows]
    found = torch.stack([torch.cat(parts, 1) for parts in fronts], 1)
    return StateMap(outputs if recording else outputs.detach(), found)


def run(model: nn.Module, x: Any) -> Tensor:
    """The outputs of a model at inputs, its buffers left as they are."""
    args, kwargs = ((), dict(x)) if isinstance(x, dict) else (tuple(x) if isinstance(x, tuple | list) else (x,), {})
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    args, kwargs = tree_map(writable, (args, kwargs))
    found = functional_call(model, buffers, args, kwargs)
    outputs = getattr(found, "logits", found)
    if not isinstance(outputs, Tensor):
        raise BadInput(
            f"model: it returns a {type(found).__name__}, not a tensor or a record with a field 'logits'; wrap it in a"
            " module that returns the outputs alone"
        )
    return outputs


def as_rows(outputs: Tensor) -> Tensor:
    """Outputs (N, K), or (N,) of a single one."""
    if outputs.dim() == 1:
        return outputs.unsqueeze(1)
    if outputs.dim() != 2:
        raise BadInput(
            f"model: its outputs have shape {tuple(outputs.shape)}, not (N, K), a row for each sample; choose the time"
            " step that counts, or flatten them in the model"
        )
    return outputs


def by_sample(module: nn.Module, state: Tensor) -> Tensor:
    """A state (layers, N, hidden) of a layer, or (N, ...) of a cell or an argument, as rows (N, numbers)."""
    front = state.movedim(1, 0) if isinstance(module, nn.RNNBase) else state
    return front.reshape(len(front), -1)
