"""How far apart two tensors of samples (N, ...) are, relative to the terms that they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


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
    return tensor.masked_fill(tensor.isinf(), 0)


def scales(inputs: Sequence[Tensor], terms: Sequence[Tensor]) -> Tensor:
    r"""The size of each sample's terms, in whose rounding two computations of it may differ.

    .. math:: s_n = \max\left(t_n,\; \max_m t_m \cdot \frac{\max(|x_n|, \mathrm{median}_m |x_m|)}{\max_m |x_m|}\right)

    A sample's own terms t may cancel, so it is measured by the largest sample's too, but in proportion to the inputs:
    one sample far out does not make up for errors in all others.

    Args:
        inputs: The network's floating-point inputs, (N, ...) each.
        terms: What the outputs are sums of, (N, ...) each.

    Returns:
        (N,), in float64.
    """
    own = torch.stack([sizes(term) for term in terms]).amax(0)
    shares = []
    for x in inputs:
        far = sizes(x)
        share = torch.maximum(far, far.median()) / far.max()
        shares.append(share.nan_to_num(1.0))
    return torch.maximum(own, own.max() * torch.stack(shares).amax(0))


def relative(difference: Tensor, scale: Tensor | float) -> float:
    """The largest difference over its sample's scale; zero where there is none."""
    found = sizes(difference)
    by = torch.as_tensor(scale, dtype=torch.float64, device=found.device).expand_as(found)
    ratio = torch.where((found > 0) & (by > 0) & by.isfinite(), found / by, found)
    return float(ratio.max()) if len(ratio) else 0.0


def judged(difference: Tensor, scale: Tensor | float, bound: float, terms: Callable[[Tensor], Tensor | float]) -> float:
    """The relative difference; where it is above the bound, relative to all terms that the worst entries are made of.

    Results may be small because terms cancelled, in whose rounding they still are. To find those terms takes a run
    forward and one back, which is spent only where the results themselves explain too little.

    Args:
        difference: (N, ...).
        scale: The size of each sample's results, (N,) or one for all.
        bound: What rounding explains.
        terms: From weights (N, ...), one at each sample's largest difference, to the size of what it is made of.

    Returns:
        The ratio.
    """
    found = relative(difference, scale)
    if found <= bound or not math.isfinite(found):
        return found
    finer = torch.as_tensor(terms(_largest(difference)), dtype=torch.float64).nan_to_num(0.0, 0.0)  # no excuse
    return relative(difference, torch.maximum(torch.as_tensor(scale, dtype=torch.float64).to(finer), finer))


def _largest(difference: Tensor) -> Tensor:
    """One at the largest entry of each sample in absolute value, zero elsewhere."""
    flat = difference.abs().reshape(len(difference), -1)
    return torch.zeros_like(flat).scatter_(1, flat.argmax(1, keepdim=True), 1).view(difference.shape)
