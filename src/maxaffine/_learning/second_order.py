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
    return 0.5 * (outputs - _as_outputs(targets, outputs)).square().flatten(1).sum(1).mean()


def _as_outputs(targets: Tensor, outputs: Tensor) -> Tensor:
    if targets.numel() != outputs.numel():
        raise BadInput(f"y: shape {tuple(targets.shape)} for outputs {tuple(outputs.shape)}; give one number for each")
    return targets.reshape(outputs.shape)


def _softmax_hessian(outputs: Tensor) -> Tensor:
    if outputs.shape[1] == 1:
        raise BadInput("loss: the cross-entropy of a single output is always 0; of another loss give hessian=")
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
        if loss.ignore_index < 0:
            return Loss(loss, _softmax_hessian)
    elif type(loss) is nn.MSELoss and loss.reduction == "mean":  # the mean over outputs too, and squares not halved
        return Loss(
            lambda outputs, targets: loss(outputs, _as_outputs(targets, outputs)),
            lambda outputs: _identity(outputs) * 2 / outputs.shape[1],
        )
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    raise BadInput(
        f"loss: no second order is known for {name!r}; known are {', '.join(map(repr, _NAMED))}, nn.CrossEntropyLoss()"
        " and nn.MSELoss() with a mean, without weights and labels to ignore. Of any other give hessian=, a"
        " function from the outputs (N, K) to the second derivatives of the loss of each sample (N, K, K)"
    )


def require_targets(loss: Loss, outputs: Tensor, y: Any) -> None:
    """Refuse targets whose loss has another second order than `hessian` says."""
    if not isinstance(y, Tensor):
        return
    count = len(y) if y.dim() else 1
    if count != len(outputs) or not y.dim():
        raise BadInput(f"y: {count} targets for {len(outputs)} sequences; give one for each")
    if loss.hessian is _softmax_hessian:
        if not y.is_floating_point() and bool((y < 0).any()):
            raise BadInput("y: some labels are below 0, to be ignored; leave these sequences out")
        classes = outputs.shape[1]
        if not y.is_floating_point() and bool((y >= classes).any()):
            raise BadInput(f"y: label {int(y.max())} with {classes} classes; labels run from 0 to {classes - 1}")
        # Of probabilities that add up to s, the second derivatives are s times as large.
        if y.is_floating_point() and y.dim() == 2 and not torch.allclose(y.sum(1), torch.ones_like(y[:, 0]), atol=1e-6):
            raise BadInput("y: the probabilities of some sequences do not add up to 1; divide each row by its sum")


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
        if not len(outputs) or bool(outputs.isnan().any()):
            raise BadInput(
                f"x: {'its outputs have NaN' if len(outputs) else 'the batch is empty'}; give at least one sequence,"
                " and finite numbers in inputs and parameters"
            )
        wanted = [item for _, item in leaves]
        rows = [
            torch.autograd.grad(
                outputs[:, unit].sum(), wanted, create_graph=recording, retain_graph=True, materialize_grads=True
            )
            for unit in range(outputs.shape[1])
        ]
    fronts = [[by_sample(module, row) for (module, _), row in zip(leaves, parts, strict=True)] for parts in rows]
    if wrong := [len(part) for part in fronts[0] if len(part) != len(outputs)]:
        raise BadInput(
            f"model: {wrong[0]} initial states belong to {len(outputs)} rows of outputs; each sequence of a batch needs"
            " a state of its own and one row, in a model that does not fold other axes into the batch"
        )
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
    axes = {nn.RNNBase: 3, nn.RNNCellBase: 2}
    if any(isinstance(module, kind) and state.dim() != count for kind, count in axes.items()):
        raise BadInput("x: the layer was given a sequence without an axis of samples; add one, x.unsqueeze(0)")
    front = state.movedim(1, 0) if isinstance(module, nn.RNNBase) else state
    return front.reshape(len(front), -1)
