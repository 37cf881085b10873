"""A small convolutional network on volumes, after that of Lucie-Smith et al. (arXiv 2011.10577), and its training."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

WIDTH, GAMMA = 8, 0.2


def network(seed: int) -> nn.Sequential:
    """Three convolutions of 3^3, max-pooling and two dense layers, for crops (N, 1, 11, 11, 11)."""
    torch.manual_seed(seed)
    convolutions = [nn.Conv3d(1, WIDTH, 3), nn.ReLU(), nn.MaxPool3d(2)]
    convolutions += [nn.Conv3d(WIDTH, 2 * WIDTH, 3, padding=1), nn.ReLU()]
    convolutions += [nn.Conv3d(2 * WIDTH, 2 * WIDTH, 3), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16 * WIDTH, 64), nn.ReLU(), nn.Linear(64, 1))


def cauchy(errors: Tensor) -> Tensor:
    """The mean of log(1 + (error / gamma)^2): a Cauchy distribution's, but for a constant."""
    return (errors / GAMMA).square().log1p().mean()


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, seed: int, batch: int = 64) -> None:
    """Adam on randomly turned and mirrored crops, so that no direction in the data is preferred by chance."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters())
    per_epoch = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * per_epoch)
    orders = (torch.randperm(len(x), generator=generator).split(batch)[:per_epoch] for _ in range(epochs))
    for rows in chain.from_iterable(orders):
        axes = [2 + axis for axis in torch.randperm(3, generator=generator).tolist()]
        mirrored = [axis for axis in (2, 3, 4) if torch.rand((), generator=generator) < 0.5]
        loss = cauchy(model(x[rows].permute(0, 1, *axes).flip(mirrored))[:, 0] - y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval().requires_grad_(False)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor) -> Tensor:
    """The outputs at many crops, (N,)."""
    return torch.cat([model(part)[:, 0] for part in x.split(256)])
