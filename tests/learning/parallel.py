"""What each process of a data-parallel training does; a module of its own, so that new processes can import it."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import maxaffine as ma

SAMPLES, PARTS, STEPS = 8, 2, 3


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)).double()


def batch() -> tuple[Tensor, Tensor]:
    inputs = torch.rand(SAMPLES, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return inputs, torch.arange(SAMPLES) % 4


def train(network: nn.Module, on: str, inputs: Tensor, labels: Tensor, accumulate: int = 1) -> None:
    """Some steps of gradient descent, each over parts of the batch one after the other."""
    penalty = ma.learning.OrthogonalTemplates(0.3, on=on)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for x, y in zip(inputs.chunk(accumulate), labels.chunk(accumulate), strict=True):
            ((F.cross_entropy(network(x), y) + penalty(network, x)) / accumulate).backward()
        optimizer.step()


def process(rank: int, folder: str) -> None:
    """One of `PARTS` processes, which trains on its part of the batch and writes the weights it ends with."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PARTS)
    inputs, labels = (item.chunk(PARTS)[rank] for item in batch())
    for on in ("classifier", "maps"):
        for accumulate in (1, 2):
            network = DistributedDataParallel(model())
            train(network, on, inputs, labels, accumulate)
            torch.save(network.module.state_dict(), Path(folder, f"{on}-{accumulate}-{rank}.pt"))
    # The interpreter's end races with gloo's threads and then aborts ("terminate called without an active exception"):
    # all is written, so the process ends here.
    os._exit(0)
