"""In whose rounding a result may be off: what passes through every value on the way to it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import BatchAxis, Linearization
from maxaffine._network.network import Network

HELD_BYTES = 256 * 2**20  # of values on the way, held at once


def terms(net: Network, number: int, x: Sequence[Tensor], v: Sequence[Tensor], u: Tensor, offset: bool) -> Tensor:
    r"""The size of the terms that <u, A[x] v> is made of (of <u, A[x] v + b[x]>, with ``offset``), for each sample.

    .. math:: s_n = \max_l \lVert u_l \odot v_l \rVert_2

    over all values l between input and output: v_l is what the points v are there, on the affine map of x, and u_l how
    much of it the weighted output takes up. Results that cancelled are small, and their terms are not.

    Args:
        net: The network.
        number: Of the value in its graph that is looked at.
        x: Its inputs, a tensor each.
        v: Points, shaped as the inputs.
        u: Weights of the values, (N, *units).
        offset: Whether the offsets count.

    Returns:
        (N,), in float64.
    """
    graph = net.graph.part([number])
    numbers = [number for step in graph.steps for number in step.outputs if number is not None]
    per_sample = 8 * sum(prod(graph.values[number].units) for number in numbers)
    count = max(1, HELD_BYTES // max(per_sample, 1))
    axis, found = net.graph.values[number].batch or BatchAxis(), []
    for parts in zip(*(_split(net, items, count) for items in (x, v)), u.split(count), strict=True):
        at = Linearization(graph, parts[0])
        cotangent = axis.from_front(parts[2], at.outputs[0].shape).unsqueeze(0)
        found.append(at.terms(parts[1], [cotangent.to(at.outputs[0])], offset))
    return torch.cat(found)


def origin(x: Sequence[Tensor]) -> list[Tensor]:
    """Zeros in place of everything that moves."""
    return [torch.zeros_like(item) if item.is_floating_point() else item for item in x]


def _split(net: Network, items: Sequence[Tensor], count: int) -> list[tuple[Any, ...]]:
    pairs = zip(items, net.inputs.batch_dims, strict=True)
    return list(zip(*(item.split(count, dim) for item, dim in pairs), strict=True))
