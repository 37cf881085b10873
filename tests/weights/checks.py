"""What the tests of the published networks share: which packages they need, and the slow comparison."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

RTOL = 1e-10


def needs(*packages: str) -> pytest.MarkDecorator:
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}; `make weights` installs it")


def rounding(dtype: torch.dtype, operators: int) -> float:
    """What rounding explains: the bound documented for `verify`."""
    return 32 * torch.finfo(dtype).eps * (1 + operators)


def bump(tensor: object, index: tuple[int, ...], amount: float) -> None:
    """Change one number of a parameter in place."""
    assert isinstance(tensor, Tensor)
    with torch.no_grad():
        tensor[index] += amount


def gradients(module: nn.Module, x: Tensor, units: list[int]) -> Tensor:
    """One row of the untouched module's Jacobian per unit, by autograd and one backward pass each."""
    x = x.clone().requires_grad_()
    flat = module(x).flatten(1)
    rows = [torch.autograd.grad(flat[:, unit].sum(), x, retain_graph=True)[0] for unit in units]
    return torch.stack(rows, 1)


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).abs().max() / truth.abs().max())


def inner(rows: Tensor, x: Tensor) -> Tensor:
    """<A_c, x> for rows (N, C, *in) and inputs (N, *in)."""
    return (rows * x.unsqueeze(1)).flatten(2).sum(2)
