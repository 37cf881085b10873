"""The slopes against differences of the module itself, where its autograd is not its derivative."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from maxaffine._graph import as_rows
from maxaffine._network.network import Network
from maxaffine._network.terms import terms

HALVINGS = 40


def slope_error(
    net: Network,
    run: Callable[[tuple[Tensor, ...]], Tensor],
    tensors: tuple[Tensor, ...],
    number: int,
    pulled: tuple[Tensor, ...],
    u: Tensor,
    bound: float,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Compare <A^T u, v> with <u, f(x + h v) - f(x)> / h, for a random v and the largest h inside x's region.

    Inside a region f is affine, so the difference is exact but for the rounding of f, which h magnifies.

    Args:
        net: The captured network.
        run: The module: inputs to the output (N, *out).
        tensors: The inputs x.
        number: Of the output's value in the network's graph.
        pulled: A^T u per floating-point input, (N, *in).
        u: Weights of the outputs, (N, *out).
        bound: Relative rounding of f.
        generator: Source of v.

    Returns:
        The relative error of the slopes along v, and how much of it rounding explains; infinite where no h was found.
    """
    here = net.codes(net.inputs.given(tensors))
    direction = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.device) for x in tensors]
    for power in range(HALVINGS):
        h = 2.0**-power
        pairs = zip(tensors, direction, strict=True)
        moved = tuple((x + h * v).to(x.dtype) if x.is_floating_point() else x for x, v in pairs)
        if net.codes(net.inputs.given(moved)) == here:
            break
    else:
        return float("inf"), 0.0
    with torch.no_grad():
        start, end = run(tensors).double(), run(moved).double()
    dims = net.inputs.batch_dims
    steps = [(b.double() - a.double()).movedim(dim, 0) for a, b, dim in zip(tensors, moved, dims, strict=True)]
    floating = [step for step, x in zip(steps, tensors, strict=True) if x.is_floating_point()]
    moves = [as_rows(p * s).sum(1) for p, s in zip(pulled, floating, strict=True)]
    expected = torch.stack(moves).sum(0)
    products = (u.double() * (end - start)).reshape(len(u), -1)
    size = max(float(expected.abs().max()), float(products.abs().sum(1).max()))
    # The outputs may have cancelled: they are rounded where their terms were.
    made_of = float(terms(net, number, moved, moved, u, offset=True).max())
    rounding = bound * max(made_of, float((u.double().abs() * end.abs()).reshape(len(u), -1).sum(1).max()))
    return float((products.sum(1) - expected).abs().max()) / (size or 1.0), rounding / (size or 1.0)
