"""Samples alone: whether a batch gives each of its samples what it has without the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from maxaffine._network.network import Network
from maxaffine._network.rerun import Rerun
from maxaffine._network.residuals import difference
from maxaffine.errors import BadInput

PLACES = 3  # the first sample, the last, and one between


def outputs_alone(net: Network, call: Rerun, tensors: Sequence[Tensor]) -> dict[int, list[list[Tensor]]]:
    """Run network and module on single samples of a batch.

    Args:
        net: The captured network.
        call: The module.
        tensors: The inputs.

    Returns:
        By the sample's place, the output tensors of the module and of the network. A module that does not take a single
        sample has none.
    """
    samples = tensors[0].shape[net.inputs.batch_dims[0]]
    places = range(samples) if samples <= PLACES else (0, samples // 2, samples - 1)
    found = {}
    for place in places if samples > 1 else ():
        one = tuple(x.narrow(axis, place, 1) for x, axis in zip(tensors, net.inputs.batch_dims, strict=True))
        try:
            module = call(one)
        except BadInput:
            continue
        found[place] = [module, tree_leaves(net(net.inputs.given(one)))]
    return found


def differences_alone(
    truth: Tensor, alone: dict[int, list[list[Tensor]]], output: int, fronts: Sequence[Callable[[Tensor], Tensor]]
) -> Tensor:
    """How far one output of a batch is from what its samples have alone.

    Args:
        truth: The module's output, (N, *units).
        alone: See :func:`outputs_alone`.
        output: Which output.
        fronts: Of the module's and of the network's outputs, how the samples are moved to the front.

    Returns:
        (N, *units), the larger of the two differences; zero for samples that were not run, infinite where an output has
        another number of entries.
    """
    found = torch.zeros_like(truth)
    for place, outputs in alone.items():
        for front, items in zip(fronts, outputs, strict=True):
            # A squeeze() may have left out the batch: then no axis is moved, and the entries are in order.
            item = items[output].detach()
            item = front(item) if item.dim() > 0 and item.shape != truth.shape[1:] else item
            if item.numel() != truth[place].numel():
                found[place] = torch.inf
            else:
                found[place] = found[place].maximum(difference(item.reshape(truth[place].shape), truth[place]).abs())
    return found
