"""What the tests of plane partitions share."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._partition import PlanePartition


def plane_of(module: nn.Module, extent: float | list = 1.0, task: str | None = None, **options) -> PlanePartition:
    """The partition of a network of two inputs, on the plane that they are."""
    module = module.double().eval()
    net = ma.capture(module, torch.zeros(2, 2, dtype=torch.float64), task=task)
    zero, axes = torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    return ma.partition.plane(net, origin=zero, basis=axes, extent=extent, **{"progress": False, **options})


def linear(weight, bias=None) -> nn.Linear:
    """A linear layer with the given rows."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(torch.as_tensor(bias, dtype=torch.float64))
    return layer


def mlp(*widths: int, seed: int = 0, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A multilayer perceptron with random weights in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), activation()]
        return nn.Sequential(*layers[:-1]).double()


def arrangement_regions(weight: Tensor, bias: Tensor, radius: float = 1.0) -> int:
    """Regions into which lines in general position cut the square: 1 + lines that meet it + crossings inside."""
    corners = torch.tensor(list(itertools.product((-radius, radius), repeat=2)), dtype=weight.dtype)
    sides = corners @ weight.T + bias
    meeting = torch.nonzero((sides.amax(0) > 0) & (sides.amin(0) < 0)).flatten().tolist()
    crossings = 0
    for i, j in itertools.combinations(meeting, 2):
        point = torch.linalg.solve(weight[[i, j]], -bias[[i, j]])
        crossings += bool((point.abs() < radius).all())
    return 1 + len(meeting) + crossings


def code_count(module: nn.Module, points: Tensor, hidden: list[nn.Module]) -> int:
    """Different patterns of signs of the inputs of some modules at points, by hooks on the untouched module."""
    signs: list[np.ndarray] = []
    handles = [layer.register_forward_pre_hook(lambda _, args: signs.append(args[0].numpy() > 0)) for layer in hidden]
    with torch.no_grad():
        module(points)
    for handle in handles:
        handle.remove()
    return len(np.unique(np.concatenate([item.reshape(len(points), -1) for item in signs], 1), axis=0))
