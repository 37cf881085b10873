"""Labeled data of every usual form, batch by batch: pairs of tensors, splits and data loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from maxaffine._network import Network
from maxaffine._progress import progress_bar
from maxaffine.errors import BadInput

FORMS = (
    "expected a data loader of batches (inputs, labels), a pair (inputs, labels) of tensors, or anything with the"
    " fields inputs and labels"
)


def labeled_batches(
    net: Network, data: Any, argument: str, batch_size: int, progress: bool | None
) -> Iterator[tuple[Any, Tensor]]:
    """Labeled data batch by batch: the inputs as the network takes them, and their class numbers (n,)."""
    if hasattr(data, "inputs") and hasattr(data, "labels"):
        data = (data.inputs, data.labels)
    if hasattr(data, "train") and hasattr(data, "test"):
        raise BadInput(f"{argument}: give one part of the data set, data.train, and the other as test=data.test")
    if not isinstance(data, Iterable) or isinstance(data, Tensor | dict | str):
        raise BadInput(f"{argument}: {FORMS}; got {type(data).__name__}")
    if isinstance(data, tuple | list) and _is_pair(data):
        numbers = _class_numbers(data[1], argument)
        batches, total = _cut(net, data[0], numbers, argument, batch_size), -(-len(numbers) // batch_size)
    else:
        batches = (_take_apart(net, item, argument) for item in data)
        total = len(data) if hasattr(data, "__len__") else None  # pyright: ignore[reportArgumentType]
    for x, labels in progress_bar(progress, argument, iterable=batches, total=total, unit="batch"):
        yield x, _class_numbers(labels, argument)


def _is_pair(data: tuple | list) -> bool:
    """Whether this is (inputs, labels) itself, and no sequence of such batches."""
    return len(data) == 2 and isinstance(data[1], Tensor)


def _cut(net: Network, inputs: Any, labels: Tensor, argument: str, size: int) -> Iterator[tuple[Any, Tensor]]:
    tensors = net.inputs.tensors(inputs)
    axes = net.inputs.batch_dims
    count = tensors[0].shape[axes[0]]
    if count != len(labels):
        raise BadInput(f"{argument}: {count} inputs and {len(labels)} labels; give one label per input")
    pieces = zip(*(item.split(size, axis) for item, axis in zip(tensors, axes, strict=True)), strict=True)
    for part, numbers in zip(pieces, labels.split(size), strict=True):
        yield net.inputs.given(part), numbers


def _take_apart(net: Network, item: Any, argument: str) -> tuple[Any, Tensor]:
    if not isinstance(item, tuple | list) or len(item) < 2 or not isinstance(item[-1], Tensor):
        raise BadInput(f"{argument}: {FORMS}; a batch was {type(item).__name__}")
    if len(item) == 2:
        return item[0], item[1]
    names = net.inputs.names
    if len(item) != len(names) + 1:
        raise BadInput(f"{argument}: a batch has {len(item)} entries; give one for each input of {names}, and labels")
    return net.inputs.given(item[:-1]), item[-1]


def _class_numbers(labels: Tensor, argument: str) -> Tensor:
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise BadInput(
            f"{argument}: labels are class numbers of shape (n,), got {tuple(labels.shape)} {labels.dtype}; one-hot"
            " rows become numbers with .argmax(1)"
        )
    return labels.long()
