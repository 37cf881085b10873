"""Planes through real images: ``python -m tests.partition.images [network ...] [--part 0/4] [--width 4]``.

Flat patches of 8-bit images tie pooling windows and units identically, at single images, along the lines between them
and all over cells. Planes through 20 triples of Fashion-MNIST's test images, at four scales: each is found, verified
against the network's codes and the untouched module, and has as many regions as there are different codes at their
centers; of some, the codes of a fine grid of points are all found among those of the regions. ``make check-partition``
runs it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._data import load
from maxaffine._models import cnn
from maxaffine._partition import PlanePartition

TRIPLES = 20
EXTENTS: tuple[float | None, ...] = (0.002, 0.02, 0.2, None)
SAMPLES = 500
GRID = 30  # points along one side, on every fourth triple
EXACT = 1e-12  # of the largest output


class Residual(nn.Module):
    """Two residual blocks of 3 x 3 convolutions, the second after a max-pooling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, width, 3, padding=1), nn.Linear(width * 14 * 14, 10)
        two = [nn.Conv2d(width, width, 3, padding=1) for _ in range(4)]
        self.blocks = nn.ModuleList(nn.Sequential(a, nn.ReLU(), b) for a, b in (two[:2], two[2:]))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Each block adds to what enters it."""
        x = self.first(x).relu()
        x = self.pool((x + self.blocks[0](x)).relu())
        return self.last((x + self.blocks[1](x)).relu().flatten(1))


def _pooled(width: int, activation: nn.Module, pool: nn.Module) -> nn.Sequential:
    """A convolution, an activation, a pooling to 14 x 14, and a linear layer."""
    first, last = nn.Conv2d(1, width, 3, padding=1), nn.Linear(width * 14 * 14, 10)
    return nn.Sequential(first, activation, pool, nn.Flatten(), last)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "cnn": lambda width: cnn((1, 28, 28), 10, channels=(width, 2 * width), hidden=16 * width),
    "conv-leaky-pool": lambda width: _pooled(width, nn.LeakyReLU(0.1), nn.MaxPool2d(2)),
    "conv-relu-pool 3x3": lambda width: _pooled(width, nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "residual": Residual,
}


def build(name: str, width: int = 1, seed: int = 0) -> nn.Module:
    """One of the networks with so many channels, with torch's default initialization."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](width).eval()


def check(module: nn.Module, net: ma.SplineNetwork, x: Tensor, extent: float | None, dense: bool) -> tuple[int, str]:
    """The regions on the plane through three images, and what is wrong with them."""
    try:
        found = ma.partition.plane(net, x, extent=extent, progress=False)
        report = found.verify(module, samples=SAMPLES, raises=False)
    except ma.PartitionError as error:
        return 0, str(error).splitlines()[0]
    wrong = "" if report.exact else str(report)
    return found.regions, wrong or (_grid(module, found) if dense else "")


def _grid(module: nn.Module, found: PlanePartition) -> str:
    """What is wrong at the points of a grid: where a boundary is missing, a cell's map is not the module's value."""
    low, high = found.vertices.amin(0), found.vertices.amax(0)
    axes = [low[i] + (high - low)[i] * torch.linspace(0, 1, GRID + 2, dtype=torch.float64)[1:-1] for i in (0, 1)]
    t = torch.cartesian_prod(*axes)
    cell, row = torch.unique(found.locate(t), return_inverse=True)
    slopes, offsets = found.plane_map(cell)
    expected = (slopes[row] * t[:, None]).sum(2) + offsets[row]
    gap = float((deepcopy(module).double()(found.points(t)).detach() - expected).abs().max())
    return f"the module differs by {gap:.2g} on a grid" if gap > EXACT * float(expected.abs().max()) else ""


def main(arguments: list[str] | None = None) -> int:
    """Print a row per network and extent; returns 1 when a plane fails."""
    parser = argparse.ArgumentParser(description="planes through real images")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="all by default")
    parser.add_argument("--part", default="0/1", help="i/n: of the triples, those with number i modulo n")
    parser.add_argument("--width", type=int, default=1, help="channels of the first convolution")
    parser.add_argument("--extents", nargs="*", default=[str(e or "default") for e in EXTENTS])
    given = parser.parse_args(arguments)
    part, parts = (int(number) for number in given.part.split("/"))
    images, failed = load("fashion-mnist").test.inputs[: 3 * TRIPLES], 0
    print(f"{'network':20}{'extent':>9}{'ok':>5}{'failed':>8}{'regions':>10}{'CPU s':>8}")
    for name in given.networks:
        module = build(name, given.width)
        net = ma.capture(module, images[:2])
        for extent in [None if word == "default" else float(word) for word in given.extents]:
            begun, regions, wrong = time.process_time(), 0, []
            for triple in range(part, TRIPLES, parts):
                count, reason = check(module, net, images[3 * triple : 3 * triple + 3], extent, triple % 4 == 0)
                regions += count
                wrong += [f"  triple {triple}: {reason}"] if reason else []
            seconds, ok = time.process_time() - begun, len(range(part, TRIPLES, parts)) - len(wrong)
            print(f"{name:20}{extent or 'default':>9}{ok:5}{len(wrong):8}{regions:10}{seconds:8.1f}", flush=True)
            print("\n".join(wrong) + "\n" if wrong else "", end="", flush=True)
            failed += len(wrong)
    print("all planes succeed" if not failed else f"{failed} FAILED")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
