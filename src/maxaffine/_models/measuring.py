"""The data that a model is judged on, and how well it does."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .._untouched import evaluating
from ..errors import BadInput


@runtime_checkable
class LabeledData(Protocol):
    """What is trained on: `maxaffine.data.Split`, or anything else with the same two fields."""

    @property
    def inputs(self) -> Tensor:
        """Inputs (N, *input_shape), floating-point."""
        ...

    @property
    def labels(self) -> Tensor:
        """Class numbers (N,), int64."""
        ...


def accuracy(model: nn.Module, split: LabeledData, batch_size: int = 512) -> float:
    """Share of inputs whose largest logit is that of their class, in eval mode; the model's mode is kept.

    Args:
        model: From inputs (N, *input_shape) to logits (N, C).
        split: The data.
        batch_size: Inputs handled together.

    Returns:
        The share, in [0, 1]; of equal logits the lowest class counts.

    >>> from types import SimpleNamespace
    >>> accuracy(nn.Identity(), SimpleNamespace(inputs=torch.eye(4), labels=torch.tensor([0, 1, 2, 0])))
    0.75
    """
    right = 0
    with evaluating(model), torch.no_grad():
        for inputs, labels in zip(split.inputs.split(batch_size), split.labels.split(batch_size), strict=True):
            logits = model(like_weights(inputs, model))
            right += int((logits.argmax(1).cpu() == labels.cpu()).sum())
    return right / len(split.labels)


def check_data(model: nn.Module, data: LabeledData, argument: str) -> None:
    """Check, before any work is spent, that a model can be trained or judged on some data."""
    if len(data.inputs) != len(data.labels) or len(data.labels) == 0:
        raise BadInput(f"{argument}: {len(data.inputs)} inputs and {len(data.labels)} labels; give one label per input")
    shape = tuple(data.inputs.shape[1:])
    try:
        with evaluating(model), torch.no_grad():
            logits = model(like_weights(data.inputs[:1], model))
    except Exception as error:  # a module may check its inputs itself, and raise anything
        raise BadInput(
            f"{argument}: the model does not take inputs of shape {shape} ({error}); build it for them"
        ) from error
    classes = int(data.labels.max()) + 1
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < classes:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BadInput(
            f"model: it gives {found} for one input, not (1, C) logits with C >= {classes}; change its last layer"
        )


def like_weights(inputs: Tensor, model: nn.Module) -> Tensor:
    """Bring inputs to the device and the dtype of the first parameter of a model that has any."""
    weight = next(model.parameters(), inputs)
    return inputs.to(weight.device, weight.dtype)
