"""Who computes the slopes of the first outputs, each prepared for a network and a batch and then called many times."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial

import torch
from captum.attr import Saliency  # pyright: ignore[reportMissingImports]  # an extra of its own
from torch import Tensor, nn
from torch.func import jacrev, vmap

import maxaffine

from .floors import input_gradients

Slopes = Callable[[], Tensor]
Prepare = Callable[[nn.Module, Tensor, int], Slopes]


def ours(model: nn.Module, inputs: Tensor, outputs: int) -> Slopes:
    """The slopes of an affine map, from a network captured beforehand."""
    net = maxaffine.capture(model, inputs)
    return lambda: torch.as_tensor(net.affine_map(inputs, outputs=range(outputs)).slopes)


def loop(model: nn.Module, inputs: Tensor, outputs: int) -> Slopes:
    """One forward pass, then autograd once per output with the batch summed."""

    def run() -> Tensor:
        leaf = inputs.detach().requires_grad_()
        totals = model(leaf).sum(0)
        rows = [torch.autograd.grad(totals[c], leaf, retain_graph=c < outputs - 1)[0] for c in range(outputs)]
        return torch.stack(rows, dim=1)

    return run


def vmap_jacrev(model: nn.Module, inputs: Tensor, outputs: int, chunk: int | None = None) -> Slopes:
    """torch.func: the Jacobian of one sample, vectorized over all samples or ``chunk`` at a time."""

    def of_one(sample: Tensor) -> Tensor:
        return model(sample.unsqueeze(0))[0, :outputs]

    return lambda: vmap(jacrev(of_one), chunk_size=chunk)(inputs).detach()


def jacrev_of_sum(model: nn.Module, inputs: Tensor, outputs: int, chunk: int = 2) -> Slopes:
    """torch.func: the Jacobian of the outputs summed over the batch, some outputs at a time."""
    slopes = jacrev(lambda x: model(x)[:, :outputs].sum(0), chunk_size=chunk)
    return lambda: slopes(inputs).transpose(0, 1).detach()


def saliency(model: nn.Module, inputs: Tensor, outputs: int) -> Slopes:
    """Captum's gradient attribution, once per target."""
    method = Saliency(model)

    def run() -> Tensor:
        leaf = inputs.detach().requires_grad_()
        return torch.stack([method.attribute(leaf, target=c, abs=False).detach() for c in range(outputs)], dim=1)

    return run


def frozen(prepare: Prepare) -> Prepare:
    """The same on a copy whose parameters need no gradients; torch.func otherwise keeps what those would need."""
    return lambda model, inputs, outputs: prepare(copy.deepcopy(model).requires_grad_(False), inputs, outputs)


REFERENCE = "floor"
FLOORS: Mapping[str, Callable[[nn.Module, Tensor, int], Callable[[], object]]] = {
    REFERENCE: input_gradients,
    "floor, all rows at once": partial(input_gradients, at_once=True),
    "floor, channels_last": partial(input_gradients, channels_last=True),
    "floor, channels_last, all rows at once": partial(input_gradients, at_once=True, channels_last=True),
}
CONTESTANTS: Mapping[str, Prepare] = {
    "loop of autograd.grad": loop,
    "vmap(jacrev)": vmap_jacrev,
    "vmap(jacrev), frozen": frozen(vmap_jacrev),
    "vmap(jacrev), frozen, 2 samples at a time": frozen(partial(vmap_jacrev, chunk=2)),
    "jacrev of the batch sum, frozen, 2 outputs at a time": frozen(jacrev_of_sum),
    "captum Saliency": saliency,
    "maxaffine": ours,
}
AGREE_WITH = "loop of autograd.grad"
