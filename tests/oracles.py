"""Slow, independent derivations that tests compare with: nothing here knows the library or trusts a batch.

Inputs are tuples of tensors with the batch first; a network with several outputs is treated as the list of its output
tensors, in the order of torch's pytrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

Inputs = Sequence[Tensor]


def outputs(module: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The output tensors of the untouched module."""
    return tree_leaves(module(*inputs))


def sample(inputs: Inputs, index: int) -> tuple[Tensor, ...]:
    """A batch with one sample only."""
    return tuple(x[index : index + 1] for x in inputs)


def jacobian(module: nn.Module, inputs: Inputs) -> list[list[Tensor]]:
    """Input Jacobians by one autograd call per sample and output number: ``[output][input]`` is (N, *out, *in)."""
    rows = [_sample_jacobian(module, sample(inputs, i)) for i in range(len(inputs[0]))]
    return [[torch.stack(blocks) for blocks in zip(*output, strict=True)] for output in zip(*rows, strict=True)]


def _sample_jacobian(module: nn.Module, inputs: Inputs) -> list[list[Tensor]]:
    # Views of leaves: a module may write into its input, which autograd forbids on leaves.
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    values = outputs(module, [x.view_as(x) for x in leaves])
    blocks = []
    for value in values:
        grads = [_gradients(number, leaves) for number in value[0].flatten()]
        shapes = [(*value.shape[1:], *x.shape[1:]) for x in inputs]
        blocks.append([torch.stack(g).reshape(s) for g, s in zip(zip(*grads, strict=True), shapes, strict=True)])
    return blocks


def _gradients(number: Tensor, leaves: Inputs) -> list[Tensor]:
    if not number.requires_grad:
        return [torch.zeros_like(x[0]) for x in leaves]
    return [g[0] for g in torch.autograd.grad(number, leaves, retain_graph=True, materialize_grads=True)]


def apply_jacobian(slopes: Sequence[Tensor], inputs: Inputs) -> Tensor:
    """Sum over the inputs of A x, for slopes (N, *out, *in) of one output."""
    total = torch.zeros(())
    for block, x in zip(slopes, inputs, strict=True):
        rows = block.reshape(len(x), -1, x[0].numel())
        product = torch.einsum("nkd,nd->nk", rows, x.reshape(len(x), -1))
        total = total + product.reshape(block.shape[: block.dim() - x.dim() + 1])
    return total


def affine_maps(module: nn.Module, inputs: Inputs) -> list[tuple[list[Tensor], Tensor]]:
    """For each output the slopes A by autograd and the offsets b = f(x) - A x."""
    with torch.no_grad():
        values = [
            torch.cat(parts) for parts in zip(*(_one(module, inputs, i) for i in range(len(inputs[0]))), strict=True)
        ]
    slopes = jacobian(module, inputs)
    return [(a, value - apply_jacobian(a, inputs)) for a, value in zip(slopes, values, strict=True)]


def _one(module: nn.Module, inputs: Inputs, index: int) -> list[Tensor]:
    return outputs(module, [x.clone() for x in sample(inputs, index)])


def along(module: nn.Module, inputs: Inputs, directions: Inputs, steps: Tensor) -> Tensor:
    """f(x + t d) for each t in one batch, all outputs flattened and concatenated: (len(steps), N, M)."""
    times, batch = len(steps), len(inputs[0])
    moved = [
        (x + steps.to(x.dtype).reshape(-1, *[1] * x.dim()) * d).flatten(0, 1)
        for x, d in zip(inputs, directions, strict=True)
    ]
    with torch.no_grad():
        values = outputs(module, moved)
    return torch.cat([y.reshape(times, batch, -1) for y in values], dim=2)


def central_differences(module: nn.Module, inputs: Inputs, step: float = 1e-6) -> list[list[Tensor]]:
    """Input Jacobians by (f(x + h e) - f(x - h e)) / 2h for every number e: ``[output][input]`` is (N, *out, *in)."""
    blocks: list[list[Tensor]] = []
    with torch.no_grad():
        for which, x in enumerate(inputs):
            columns = []
            for unit in torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:]):
                moved = [
                    [y + sign * step * unit if i == which else y for i, y in enumerate(inputs)] for sign in (1, -1)
                ]
                above, below = outputs(module, moved[0]), outputs(module, moved[1])
                columns.append([(a - b) / (2 * step) for a, b in zip(above, below, strict=True)])
            blocks.append([torch.stack(c, -1).reshape(*c[0].shape, *x.shape[1:]) for c in zip(*columns, strict=True)])
    return [list(output) for output in zip(*blocks, strict=True)]


def curvature(module: nn.Module, inputs: Inputs, directions: Inputs, step: float = 1e-4) -> Tensor:
    """|f(x + td) - 2 f(x) + f(x - td)| / t^2 per sample, the largest over outputs: (N,); 0 inside an affine piece."""
    below, here, above = along(module, inputs, directions, torch.tensor([-step, 0.0, step], dtype=inputs[0].dtype))
    return (above - 2 * here + below).abs().amax(1) / step**2


def largest_jump(module: nn.Module, start: Inputs, end: Inputs, points: int = 257) -> float:
    """Output change across an interval 1e-12 of a segment long, found by zooming in on the largest change.

    Starts and ends are batches of one sample. A steep piece can hide a small jump, never the other way round.
    """
    directions = [b - a for a, b in zip(start, end, strict=True)]
    low, high, jump = 0.0, 1.0, 0.0
    while high - low > 1e-12:
        steps = torch.linspace(low, high, points, dtype=torch.float64)
        changes = along(module, start, directions, steps).flatten(1).diff(dim=0).abs().amax(1)
        widest = int(changes.argmax())
        jump, low, high = float(changes[widest]), float(steps[widest]), float(steps[widest + 1])
    return jump


def count_regions(module: nn.Sequential, low: float, high: float) -> int:
    """Regions of a float64 MLP of ReLUs within a box: the sides of its units, one after another, by linear programs.

    A choice of sides counts where a ball of some size fits; nothing is known of corners, volumes or neighbors.
    """
    layers = [
        (part.weight.detach().numpy(), part.bias.detach().numpy()) for part in module if isinstance(part, nn.Linear)
    ]
    size = layers[0][0].shape[1]
    sides = np.concatenate([np.eye(size), -np.eye(size)]), np.repeat([high, -low], size)
    choices = [(np.eye(size), np.zeros(size), sides)]
    for weight, bias in layers[:-1]:
        split = [
            (slopes[:0], offsets[:0], weight @ slopes, weight @ offsets + bias, s) for slopes, offsets, s in choices
        ]
        for unit in range(len(bias)):
            split = [
                (np.vstack([a, on * w[unit]]), np.append(b, on * c[unit]), w, c, tried)
                for a, b, w, c, (normals, bounds) in split
                for on in (0, 1)
                for tried in [(np.vstack([normals, (1 - 2 * on) * w[unit]]), np.append(bounds, (2 * on - 1) * c[unit]))]
                if _holds_a_ball(*tried)
            ]
        choices = [(a, b, s) for a, b, _, _, s in split]
    return len(choices)


def _holds_a_ball(normals: np.ndarray, bounds: np.ndarray) -> bool:
    widths = np.linalg.norm(normals, axis=1)
    free = [(None, None)] * normals.shape[1] + [(None, 1.0)]
    goal = np.append(np.zeros(normals.shape[1]), -1.0)
    found = linprog(goal, A_ub=np.column_stack([normals, widths]), b_ub=bounds, bounds=free, method="highs")
    return found.status == 0 and found.x[-1] > 1e-9
