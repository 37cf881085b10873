"""Exact partitions of planes: time and memory against one forward pass per final vertex.

Run ``python -m benchmarks.planes``; every network is measured in a process of its own, on one thread, in CPU seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import maxaffine as ma

FLOOR_VERTICES = 2000


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _convnet(pool: bool) -> nn.Sequential:
    first = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()]
    second = [nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    if pool:
        return nn.Sequential(*first, nn.MaxPool2d(2), *second, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 10))
    strided = [nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 14 * 14, 64), nn.ReLU()]
    return nn.Sequential(*first, *strided, nn.Linear(64, 10))


SQUARE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], list[float] | None]] = {
    "MLP 2-128x3-1": (lambda: _mlp(2, 128, 128, 128, 1), lambda: SQUARE, [0, 2, 0, 2]),
    "MLP 2-256x4-1": (lambda: _mlp(2, 256, 256, 256, 256, 1), lambda: SQUARE, [0, 2, 0, 2]),
    "MLP 784-256-256-10": (lambda: _mlp(784, 256, 256, 10), lambda: torch.rand(3, 784), None),
    "CNN 1x28x28, strided": (lambda: _convnet(False), lambda: torch.rand(3, 1, 28, 28), [0, 4, 0, 4]),
    "CNN 1x28x28, max-pooling": (lambda: _convnet(True), lambda: torch.rand(3, 1, 28, 28), [0, 2, 0, 2]),
}


def measure(name: str) -> dict[str, float]:
    """Partition one plane, in this process.

    Args:
        name: Of the network.

    Returns:
        Counts, CPU seconds, the floor and the peak of memory in MB, before and behind it.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    make, anchors, extent = NETWORKS[name]
    module, x = make().double().eval(), anchors().double()
    net = ma.capture(module, x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    found = ma.partition.plane(net, x, extent=extent, progress=False)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    some = found.points(found.vertices[:FLOOR_VERTICES])
    with torch.no_grad():
        start = time.process_time()
        module(some)
        floor = (time.process_time() - start) * len(found.vertices) / len(some)
    counts = {"regions": found.regions, "vertices": len(found.vertices)}
    return counts | {"seconds": seconds, "floor": floor, "before": before, "peak": peak}


def main() -> int:
    """Print a row per network."""
    print("| network | regions | vertices | CPU s | of the floor | peak MB (before) |\n|---|---|---|---|---|---|")
    for name in NETWORKS:
        command = [sys.executable, "-m", "benchmarks.planes", name]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        found = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        seconds, ratio = f"{found['seconds']:.2f}", f"{found['seconds'] / found['floor']:.2f}"
        memory = f"{found['peak']:.0f} ({found['before']:.0f})"
        print(f"| {name} | {found['regions']} | {found['vertices']} | {seconds} | {ratio} | {memory} |", flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        sys.exit(main())
