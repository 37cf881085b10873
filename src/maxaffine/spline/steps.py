"""A layer seen as a chain of steps, and the refusals of what has no exact max-affine form."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrize import is_parametrized

from maxaffine.errors import NotPiecewiseAffine
from maxaffine.spline.layers import Abs, Maxout

Entry = TypeVar("Entry")
Kind = TypeVar("Kind", bound=nn.Module)

ABSOLUTE_VALUES = (builtins.abs, torch.abs, torch.absolute, Tensor.abs)
RECTIFIERS = (torch.relu, nn.functional.relu, Tensor.relu)
NOT_CONVEX = (nn.ReLU6, nn.Hardtanh, nn.Hardshrink, nn.Softshrink, nn.Hardsigmoid, nn.Threshold)
CURVED = (
    *(nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Softsign, nn.Hardswish),
    *(nn.Tanhshrink, nn.LogSigmoid, nn.Softmax, nn.Softmin, nn.LogSoftmax, nn.GLU, nn.GRUCell, nn.LSTMCell),
)


@dataclass(frozen=True)
class Step:
    """One layer of a chain.

    Args:
        path: Its dotted path inside the layer that the user gave; empty for that layer itself.
        layer: The layer.
    """

    path: str
    layer: nn.Module


class StackedRecurrence(nn.Module):
    """The affine part W x_t + W_r h_{t-1} + b of a recurrent cell, on the stacked input [x_t, h_{t-1}]."""

    def __init__(self, cell: nn.RNNCell) -> None:
        """Share the weights of a cell.

        Args:
            cell: The cell.
        """
        super().__init__()
        self.cell = cell

    def forward(self, stacked: Tensor) -> Tensor:
        """Pre-activation.

        Args:
            stacked: [x_t, h_{t-1}], (N, input_size + hidden_size).

        Returns:
            (N, hidden_size).
        """
        cell = self.cell
        x, h = stacked.split([cell.input_size, cell.hidden_size], dim=1)
        recurrent = nn.functional.linear(h, cell.weight_hh, cell.bias_hh)
        return nn.functional.linear(x, cell.weight_ih, cell.bias_ih) + recurrent


def is_plain(layer: nn.Module, kind: type[Kind]) -> TypeGuard[Kind]:
    """Whether the layer is of this type and runs this type's own `forward`, which alone is known here.

    Args:
        layer: The layer.
        kind: The type.

    Returns:
        The answer.
    """
    return isinstance(layer, kind) and type(layer).forward is kind.forward and "forward" not in vars(layer)


def lookup(table: Mapping[type[nn.Module], Entry], layer: nn.Module) -> Entry | None:
    """Entry of the layer's type, or of a base class whose `forward` it inherits.

    Args:
        table: Entries by type.
        layer: The layer.

    Returns:
        The entry, or None.
    """
    return next((table[kind] for kind in type(layer).__mro__ if kind in table and is_plain(layer, kind)), None)


def unroll(layer: nn.Module | Callable[..., Tensor], path: str = "") -> Iterator[Step]:
    """The steps of a layer in order: nested Sequential flattened, Maxout and RNNCell split at their pre-activation.

    Args:
        layer: A module, or one of the functions in `ABSOLUTE_VALUES` and `RECTIFIERS`.
        path: Path of the layer itself.

    Yields:
        Steps.
    """
    if not isinstance(layer, nn.Module):
        layer = _module_of(layer)
    refuse_unless_fixed(Step(path, layer))
    if is_plain(layer, nn.Sequential):
        # named_children() would skip a module that occurs a second time.
        for name, child in zip(layer._modules, layer, strict=True):
            yield from unroll(child, f"{path}.{name}" if path else name)
    elif is_plain(layer, Maxout):
        yield from unroll(layer.linear, f"{path}.linear" if path else "linear")
        yield Step(path, layer)
    elif is_plain(layer, nn.RNNCell) and layer.nonlinearity == "relu":
        yield Step(path, StackedRecurrence(layer))
        yield Step(path, nn.ReLU())
    else:
        yield Step(path, layer)


def _module_of(function: Callable[..., Tensor]) -> nn.Module:
    if function in ABSOLUTE_VALUES:
        return Abs()
    if function in RECTIFIERS:
        return nn.ReLU()
    raise NotPiecewiseAffine(
        getattr(function, "__name__", repr(function)),
        "of plain functions only torch.abs and torch.relu are understood",
        "give a torch.nn module, or use maxaffine.capture",
    )


def refuse_unless_fixed(step: Step) -> None:
    """Refuse a layer whose output is random, depends on the batch or the call, or may be altered by hooks.

    Args:
        step: The layer.

    Raises:
        NotPiecewiseAffine: It is so.
    """
    layer, name = step.layer, type(step.layer).__name__
    cure = "call .eval() on it first"
    if layer.training and isinstance(layer, (_DropoutNd, nn.RReLU)):
        raise NotPiecewiseAffine(name, "in training mode it is random", cure, step.path)
    if isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None):
        if layer.running_mean is None:
            cure = "build it with track_running_stats=True, train it, then call .eval()"
        raise NotPiecewiseAffine(name, "it normalises by the statistics of the batch", cure, step.path)
    if layer.training and is_parametrized(layer):
        raise NotPiecewiseAffine(name, "in training mode its parametrization may change at every call", cure, step.path)
    if any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)):
        raise NotPiecewiseAffine(name, "its hooks may change the result", "remove the hooks first", step.path)


def refuse(step: Step) -> NoReturn:
    """Refuse a layer that has no max-affine form.

    Args:
        step: The layer.

    Raises:
        NotPiecewiseAffine: Always, with the reason.
    """
    kind, name = type(step.layer), type(step.layer).__name__
    if kind in NOT_CONVEX:
        reason = "it is piecewise affine but not convex, and a maximum of affine pieces is convex"
        cure = "use maxaffine.capture, which gives the codes and the affine map of such operators"
    elif kind in CURVED or isinstance(step.layer, nn.RNNCell):
        reason = "it is curved, so no finite number of affine pieces equals it"
        cure = "use a piecewise-affine activation instead, or take the form of the layers before it"
    else:
        reason = "no max-affine form of this type is known"
        cure = "see max_affine_form for the layers that have one, or use maxaffine.capture"
    raise NotPiecewiseAffine(name, reason, cure, step.path)
