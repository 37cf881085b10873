"""How much a unit's boundary adds to the partition, as an importance for torch-pruning."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._drawing import require
from maxaffine._pruning.boundaries import RHO, distances_between
from maxaffine.errors import BadInput

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class SplineImportance:
    r"""Importance by boundary distance, for any pruner of torch-pruning: redundant units go first.

    .. math:: d(k, k') = 1 - |\cos(w_k, w_{k'})| + \rho \, | b_k / |w_k| - s \, b_{k'} / |w_{k'}| |

    with the batch-norm that follows a layer folded into w and b, and s the sign of the cosine. Of the two closest units
    that whose next neighbor is closer goes, and its importance is that distance; then the rest is looked at again. So
    of a group of like units one stays, however many are pruned. A unit without weights has no boundary, and importance
    0. Layers that are pruned together, as those of a skip connection, count by their mean.

    Args:
        rho: Weight of the boundaries' places against their directions.

    Raises:
        BadInput: For a negative or infinite rho.
        MaxAffineError: When torch-pruning is absent.

    Example:
        >>> import torch_pruning as tp
        >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
        >>> model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
        >>> last = [model[2]]
        >>> tp.BasePruner(model, torch.zeros(1, 2), SplineImportance(), pruning_ratio=1 / 3, ignored_layers=last).step()
        >>> model[0].weight.tolist()  # the first and the third were close, and the third is nearer to the second
        [[1.0, 0.0], [0.0, 1.0]]

    Source: You et al., "Max-Affine Spline Insights Into Deep Network Pruning" (TMLR 2022), for the distance, there
    without the sign s.
    """

    def __init__(self, rho: float = RHO) -> None:
        if not 0 <= rho < float("inf"):
            raise BadInput(f"rho: expected a number of at least 0, got {rho!r}")
        require("SplineImportance", ("torch_pruning",), "pruning")
        # A virtual subclass: torch-pruning is loaded where one is made, not where the library is imported.
        import_module("torch_pruning").importance.Importance.register(type(self))
        self.rho = rho

    @torch.autocast("cpu", enabled=False)
    @torch.no_grad()
    def __call__(self, group: Any) -> Tensor | None:
        """The importance of each unit of a group of torch-pruning, in the order of its root; None without weights."""
        count = len(group[0].idxs)
        at = {number: place for place, number in enumerate(group[0].root_idxs)}
        found: list[Tensor] = []
        for item in group:
            rows = _folded(item.dep)
            if rows is None or any(number is None for number in item.root_idxs):
                continue
            own = importance(*rows, self.rho)[item.idxs]
            places = torch.tensor([at[number] for number in item.root_idxs], device=own.device)
            # A unit that is several outputs counts by their mean.
            sums = own.new_zeros(count).index_add_(0, places, own)
            found.append(sums / torch.bincount(places, minlength=count).clamp(min=1))
        return torch.stack(found).mean(0) if found else None

    def __repr__(self) -> str:
        return f"SplineImportance(rho={self.rho})"


def importance(weights: Tensor, offsets: Tensor, rho: float = RHO) -> Tensor:
    """The distance (K,) of each unit to the closest of those that are left when its turn comes."""
    count = len(weights)
    empty = (weights == 0).all(1)
    apart = distances_between(weights.double(), offsets.double(), rho)
    found = torch.where(empty, 0.0, torch.inf).to(apart)
    left = ~empty
    last = 0.0
    for _ in range(int(left.sum()) - 1):
        row, column = divmod(int(apart.argmin()), count)
        # Of both that goes whose next neighbor is closer, so that the other covers more.
        next_of = [torch.cat([apart[a, :b], apart[a, b + 1 :]]).min() for a, b in ((row, column), (column, row))]
        gone = row if next_of[0] < next_of[1] else column
        last = max(last, float(apart[row, column]))
        found[gone], left[gone] = last, False
        apart[gone], apart[:, gone] = torch.inf, torch.inf
    # The last one covers all that is left: as far as at a right angle, and farther than any before it.
    found[left] = max(1.0, 2 * last)
    return found


def _folded(dependency: Any) -> tuple[Tensor, Tensor] | None:
    """Rows and offsets of a layer that is pruned by its outputs, a batch-norm right after it folded in."""
    module: Any = dependency.target.module
    linear, convolution = isinstance(module, nn.Linear), isinstance(module, nn.modules.conv._ConvNd)
    if not (linear or convolution) or "out_channels" not in getattr(dependency.handler, "__name__", ""):
        return None
    if convolution and isinstance(module, TRANSPOSED):
        grouped = module.weight.unflatten(0, (module.groups, -1))
        weights = grouped.transpose(1, 2).flatten(0, 1).flatten(1)
    else:
        weights = module.weight.flatten(1)
    offsets = module.bias if module.bias is not None else weights.new_zeros(len(weights))
    for norm in _norms(dependency.target, len(weights)):
        if norm.running_mean is None or norm.running_var is None:
            continue
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = 0 if norm.bias is None else norm.bias
        weights, offsets = weights * scale[:, None], (offsets - norm.running_mean) * scale + shift
    return weights, offsets


def _norms(node: Any, units: int) -> Iterator[Any]:
    """The batch-norm that alone takes the outputs of a node of torch-pruning's graph, if that is so."""
    (*others,) = node.outputs
    if len(others) == 1 and isinstance(others[0].module, nn.modules.batchnorm._BatchNorm):
        if others[0].module.num_features == units:
            yield others[0].module
