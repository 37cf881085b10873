"""A network whose every output is convex in the input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NonNegativeLinear(nn.Module):
    """Linear map without offsets whose slopes are |raw| >= 0, whatever an optimizer does to `raw`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        # Slopes of one sign do not cancel: their mean, not their spread, carries the size of a signal through.
        self.raw = nn.Parameter(torch.rand(out_features, in_features) * 2 / in_features)

    @property
    def weight(self) -> Tensor:
        """The slopes |raw|, (out_features, in_features)."""
        return self.raw.abs()

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        return F.linear(z, self.weight)


class InputConvex(nn.Module):
    """z[1] = relu(W[0] x + b[0]), z[l+1] = relu(U[l] z[l] + W[l] x + b[l]) with U >= 0; no ReLU at the end."""

    def __init__(self, in_features: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [*widths, classes]
        self.flatten = nn.Flatten()
        self.from_input = nn.ModuleList(nn.Linear(in_features, size) for size in sizes)
        self.from_hidden = nn.ModuleList(
            NonNegativeLinear(before, after) for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits (N, C), each convex in x."""
        x = self.flatten(x)
        z = self.from_input[0](x)
        for from_input, from_hidden in zip(list(self.from_input)[1:], self.from_hidden, strict=True):
            z = from_hidden(self.relu(z)) + from_input(x)
        return z


def input_convex(input_shape: Sequence[int], classes: int, widths: Sequence[int] = (128, 128)) -> InputConvex:
    """Input-convex network with skip connections from the input to every layer; any input shape.

    A convex non-decreasing function of convex functions, added with weights >= 0 to an affine one, is convex; hence
    each output is convex in x, and the whole network is one max-affine spline.

    Args:
        input_shape: Shape of one input, without the batch.
        classes: Number of logits C.
        widths: Units of each hidden layer.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    >>> network = input_convex((2,), 1, widths=(8, 8))
    >>> x, y = torch.randn(2, 100, 2)
    >>> bool((network((x + y) / 2) <= (network(x) + network(y)) / 2 + 1e-6).all())
    True

    Source: B. Amos, L. Xu, J. Z. Kolter, Input Convex Neural Networks, ICML 2017, equation 2 and proposition 1.
    """
    return InputConvex(math.prod(input_shape), classes, widths)
