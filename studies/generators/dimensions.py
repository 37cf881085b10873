"""How many dimensions generators have under dropout, by width, and where reconstruction errors bend."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import maxaffine as ma

LATENTS, NUMBERS, TRUE = 6, 20, 4
WIDTHS = (6, 8, 12, 16, 24, 48)
SIZES = range(1, 9)
STEPS, BATCH, RATE = 1500, 256, 0.5


def measure(seed: int) -> dict[str, Any]:
    """Random generators under dropout by width; autoencoders of a manifold of known dimension by their latents."""
    torch.manual_seed(seed)
    ranks = {}
    for width in WIDTHS:
        model = _mlp(LATENTS, width, NUMBERS)
        z = torch.randn(20, LATENTS).double()
        net = ma.capture(model, z)
        found = ma.generators.dimension_by_dropout(net, z, ["1", "3"], rate=RATE, masks=50, seed=seed)
        ranks[width] = found.mean
    fold = _mlp(TRUE, 32, NUMBERS)
    train, test = (fold(2 * torch.rand(count, TRUE).double() - 1).detach() for count in (4000, 1000))
    scale = train.std()
    errors = {size: _error(size, train / scale, test / scale) for size in SIZES}
    return {"ranks": ranks, "errors": errors, "elbow": ma.generators.elbow(errors).dimension}


def _mlp(fan_in: int, width: int, fan_out: int) -> nn.Sequential:
    layers = (nn.Linear(fan_in, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2))
    model = nn.Sequential(*layers, nn.Linear(width, fan_out)).double()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.kaiming_normal_(parameter)
    return model.eval()


def _error(size: int, train: Tensor, test: Tensor) -> float:
    """The mean squared error, on held-out points, of an autoencoder of so many latents."""
    encoder, decoder = _mlp(NUMBERS, 64, size), _mlp(size, 64, NUMBERS)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = train[torch.randint(len(train), (BATCH,))]
        optimizer.zero_grad()
        F.mse_loss(decoder(encoder(rows)), rows).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(F.mse_loss(decoder(encoder(test)), test))
