"""A recurrent network with ReLU, which reads an image row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import BadInput


class ReluRnn(nn.Module):
    """h[t] = relu(W x[t] + W_r h[t-1] + b), W_r the identity at first; the last state gives the logits."""

    def __init__(self, row: int, classes: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(row, hidden, num_layers=layers, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, classes)
        with torch.no_grad():
            for layer in range(layers):
                nn.init.eye_(getattr(self.rnn, f"weight_hh_l{layer}"))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits (N, C) of sequences (N, T, D), or of images (N, C, H, W), whose H rows are the steps."""
        rows = x if x.ndim == 3 else x.transpose(1, 2).flatten(2)
        states, _ = self.rnn(rows)
        return self.head(states[:, -1])


def relu_rnn(input_shape: Sequence[int], classes: int, hidden: int = 64, layers: int = 1) -> ReluRnn:
    """Recurrent ReLU network over the rows of an image, or over the steps of a sequence.

    Args:
        input_shape: (channels, height, width) of one image, or (steps, features) of one sequence.
        classes: Number of logits C.
        hidden: Units of the state.
        layers: Recurrent layers on top of each other.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    Raises:
        BadInput: The shape has another number of dimensions.

    >>> relu_rnn((1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])

    Source: Q. V. Le, N. Jaitly, G. E. Hinton, A Simple Way to Initialize Recurrent Networks of Rectified Linear Units,
    arXiv 1504.00941, 2015.
    """
    if len(input_shape) not in (2, 3):
        raise BadInput(
            f"input_shape: {tuple(input_shape)} is neither (channels, height, width) nor (steps, features); "
            "mlp takes any shape"
        )
    row = input_shape[1] if len(input_shape) == 2 else input_shape[0] * input_shape[2]
    return ReluRnn(row, classes, hidden, layers)
