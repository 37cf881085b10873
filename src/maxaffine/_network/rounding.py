"""How far apart two results may be: the size of a difference, of what rounding explains of it, and of its terms."""

import math
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import BatchAxis, Dependence, Linearization
from maxaffine._network.network import Network

HELD_BYTES = 256 * 2**20  # of values on the way, held at once


def rounding_bound(net: Network) -> float:
    """32 eps (1 + number of operators) in the coarsest dtype on the way; a check that allows more is none."""
    numbers = {*net.graph.inputs, *(number for step in net.graph.steps for number in step.outputs)} - {None}
    values = [net.graph.values[number] for number in numbers]
    eps = max(torch.finfo(v.dtype).eps for v in values if v.dependence is Dependence.AFFINE and v.dtype is not None)
    return min(32 * eps * (1 + len(net.operators)), 1 / 16)


def size(tensor: Tensor) -> float:
    """The largest entry in absolute value; infinite when the tensor holds NaN."""
    return float(sizes(tensor).max()) if tensor.numel() else 0.0


def sizes(tensor: Tensor) -> Tensor:
    """The same for each sample, (N,) in float64."""
    if not tensor.numel():
        return torch.zeros(len(tensor), dtype=torch.float64, device=tensor.device)
    return tensor.abs().reshape(len(tensor), -1).amax(1).double().nan_to_num(math.inf, math.inf)


def difference(found: Tensor, expected: Tensor) -> Tensor:
    """How far one is from the other: zero where both hold the same infinity, infinite or NaN where one does."""
    return torch.where(found == expected, 0, found - expected)


def without_infinities(tensor: Tensor) -> Tensor:
    """Zero in place of infinities, as masks put them into scores: they are not terms that anything is rounded by."""
    return tensor.nan_to_num(nan=math.nan, posinf=0.0, neginf=0.0)


def scales(inputs: Sequence[Tensor], terms: Sequence[Tensor]) -> Tensor:
    """The size of each sample's terms (N, ...), in whose rounding two computations of it may differ, (N,)."""
    # s_n = max(t_n, max_m t_m * max(|x_n|, median_m |x_m|) / max_m |x_m|). A sample's own terms t may cancel, so it is
    # measured by the largest sample's too, but in proportion to the inputs x: one sample far out does not make up for
    # errors in all others.
    own = torch.stack([sizes(term) for term in terms]).amax(0)
    shares = []
    for x in inputs:
        far = sizes(x)
        share = torch.maximum(far, far.median()) / far.max()
        shares.append(share.nan_to_num(1.0))
    return torch.maximum(own, own.max() * torch.stack(shares).amax(0))


def relative_error(
    difference: Tensor, scale: Tensor | float, bound: float, terms: Callable[[Tensor], Tensor | float]
) -> float:
    """The largest difference over its sample's scale; above the bound, over all terms that the worst entries sum."""
    # Results may be small because terms cancelled, in whose rounding they still are. To find those terms (from weights
    # that are one at each sample's largest difference) takes a run forward and one back, which is spent only where the
    # results themselves explain too little.
    found = _relative(difference, scale)
    if found <= bound or not math.isfinite(found):
        return found
    finer = torch.as_tensor(terms(largest(difference)), dtype=torch.float64).nan_to_num(0.0, 0.0)  # no excuse
    return _relative(difference, torch.maximum(torch.as_tensor(scale, dtype=torch.float64).to(finer), finer))


def _relative(difference: Tensor, scale: Tensor | float) -> float:
    """The largest difference over its sample's scale; zero where there is none."""
    found = sizes(difference)
    by = torch.as_tensor(scale, dtype=torch.float64, device=found.device).expand_as(found)
    # A scale that is zero or infinite measures nothing: there the difference counts as it is.
    ratio = torch.where((found > 0) & (by > 0) & by.isfinite(), found / by, found)
    return float(ratio.max()) if len(ratio) else 0.0


def largest(items: Tensor) -> Tensor:
    """One at the largest entry of each sample in absolute value, zero elsewhere."""
    flat = items.abs().reshape(len(items), -1)
    return torch.zeros_like(flat).scatter_(1, flat.argmax(1, keepdim=True), 1).view(items.shape)


def terms(net: Network, number: int, x: Sequence[Tensor], v: Sequence[Tensor], u: Tensor, offset: bool) -> Tensor:
    """The size of the terms of <u, A[x] v> at one value (of <u, A[x] v + b[x]>, with ``offset``), (N,) in float64."""
    # s_n = max_l |u_l * v_l|_2 over all values l between input and output: v_l is what the points v are there, on the
    # affine map of x, and u_l how much of it the weighted output takes up. Results that cancelled are small, and their
    # terms are not.
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
