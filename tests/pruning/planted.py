"""Networks in which units were planted that are idle, affine, or like others, and what is known of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def inputs(count: int = 200, *shape: int) -> Tensor:
    """Numbers in [0, 1), in float64."""
    shape = shape or (3,)
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mlp() -> Any:
    """Of three numbers in [0, 1): unit 1 never active, 2 always, 4 = 2.5 times unit 3, 5 the opposite of unit 0."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).double().eval()
    with torch.no_grad():
        first, weight = model[0], model[0].weight
        first.bias.copy_(torch.tensor([0.1, -9.0, 9.0, -0.2, 0.0, 0.0, 0.05, 0.0]))
        weight[0] = torch.tensor([1.0, -1.0, -0.3])
        weight[3] = torch.tensor([-0.4, 1.0, -0.2])
        weight[6], weight[7] = torch.tensor([0.3, 0.2, -0.5]), torch.tensor([-0.6, 0.1, 0.4])
        weight[4], first.bias[4] = 2.5 * weight[3], 2.5 * first.bias[3]
        weight[5], first.bias[5] = -2 * weight[0], -2 * first.bias[0]
    return model


def cnn(activation: nn.Module | None = None, padding: int = 1) -> Any:
    """Of (1, 6, 6) pixels: channel 1 never active, channel 3 = channel 0 by other batch-norm numbers, 2 no weights."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        activation or nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3, padding=padding),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * (3 if padding else 1) ** 2, 3),
    )
    norm = model[1]
    with torch.no_grad():
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(0.0, 0.4)
        norm.bias[1] = -30
        norm.weight[2], norm.bias[2] = 0, -0.5
    model = model.double().eval()
    with torch.no_grad():
        # (3 w x - 3 m) gamma' / sqrt(9 v + 9 eps) = (w x - m) gamma' / sqrt(v + eps), with gamma' and beta' doubled.
        model[0].weight[3] = 3 * model[0].weight[0]
        norm.running_mean[3], norm.running_var[3] = 3 * norm.running_mean[0], 9 * norm.running_var[0] + 8 * norm.eps
        norm.weight[3], norm.bias[3] = 2 * norm.weight[0], 2 * norm.bias[0]
    return model


class Residual(nn.Module):
    """x + f(x) between two layers, channel 1 of the stem and unit 2 inside f never active."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inner, self.outer, self.head = (
            nn.Linear(3, 4),
            nn.Linear(4, 6),
            nn.Linear(6, 4),
            nn.Linear(4, 2),
        )
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.stem.bias[1], self.inner.bias[2] = -9, -90
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        z = self.relu(self.stem(x))
        return self.head(torch.relu(z + self.outer(torch.relu(self.inner(z)))))


def without(
    model: nn.Sequential, activation: int, unit: int, factor: float, other: int | None, shift: float
) -> nn.Module:
    """A sequence in which one unit's value is another's, or its own argument's, times a factor, plus a shift."""

    class Held(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for place, module in enumerate(model):
                argument, x = x, module(x)
                if place == activation:
                    x = x.clone()
                    source = argument[:, unit] if other is None else x[:, other]
                    x[:, unit] = factor * source + shift
            return x

    return Held()
