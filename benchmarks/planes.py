"""Exact planes against the least work for them, a published algorithm, and the packages that list regions."""

from __future__ import annotations

import itertools
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._partition import PlanePartition

from .measure import Failure, in_fresh_process
from .plane_peers import PACKAGES, PEERS, PLANES_ALONE, run_peer

FLOOR_VERTICES = 2000


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with a ReLU between each two."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """Three residual blocks of 64 units between 2 inputs and 1 output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 64), nn.Linear(64, 1)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Each block adds to what enters it."""
        x = self.first(x).relu()
        for block in self.blocks:
            x = (x + block(x)).relu()
        return self.last(x)


def convnet(pool: bool) -> nn.Sequential:
    """Two convolutions of 28 x 28 images, with max-pooling or strides."""
    first = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()]
    second = [nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    if pool:
        return nn.Sequential(*first, nn.MaxPool2d(2), *second, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 10))
    strided = [nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 14 * 14, 64), nn.ReLU()]
    return nn.Sequential(*first, *strided, nn.Linear(64, 10))


@dataclass(frozen=True)
class Plane:
    """A network and a polygon.

    Attributes:
        make: The network.
        anchors: Three inputs.
        extent: See :func:`maxaffine.partition.plane`.
        peers: Names of the peers that take it.
    """

    make: Callable[[], nn.Module]
    anchors: Callable[[], Tensor]
    extent: list[float] | None
    peers: tuple[str, ...] = ()

    def build(self) -> tuple[nn.Module, Tensor, ma.SplineNetwork]:
        """The network in float64 with torch's default initialization, the anchors, and the network captured."""
        torch.manual_seed(0)
        module, x = self.make().double().eval(), self.anchors().double()
        return module, x, ma.capture(module, x)


def square() -> Tensor:
    """Anchors of the plane of two inputs: coordinates are those of the inputs less (-1, -1)."""
    return torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])


WHOLE = [0.0, 2.0, 0.0, 2.0]
PLANES = {
    "MLP 2-16x2-1": Plane(lambda: mlp(2, 16, 16, 1), square, WHOLE, PEERS),
    "MLP 2-32x3-1": Plane(lambda: mlp(2, 32, 32, 32, 1), square, WHOLE, PEERS),
    "MLP 2-128x3-1": Plane(lambda: mlp(2, 128, 128, 128, 1), square, WHOLE, PLANES_ALONE),
    "MLP 2-256x4-1": Plane(lambda: mlp(2, 256, 256, 256, 256, 1), square, WHOLE, PLANES_ALONE),
    "MLP 784-256-256-10": Plane(lambda: mlp(784, 256, 256, 10), lambda: torch.rand(3, 784), None, PLANES_ALONE),
    "residual MLP 2-64x7-1": Plane(Residual, square, WHOLE),
    "CNN 28 px, strided": Plane(lambda: convnet(False), lambda: torch.rand(3, 1, 28, 28), [0.0, 2.0, 0.0, 2.0]),
    "CNN 28 px, max-pooling": Plane(lambda: convnet(True), lambda: torch.rand(3, 1, 28, 28), [0.0, 0.5, 0.0, 0.5]),
}


def planes(rounds: int) -> list[dict[str, Any]]:
    """One row per network, ready for JSON."""
    rows = []
    for name, plane in PLANES.items():
        found = in_fresh_process(time_plane, name, rounds)
        row: dict[str, Any] = {"title": name}
        if isinstance(found, Failure):
            rows.append(row | {"failure": found.reason})
            continue
        row |= found | {"versions": {package: version(package) for package in PACKAGES}}
        for peer in plane.peers:
            result = in_fresh_process(time_peer, name, peer)
            row[peer] = {"failure": result.reason} if isinstance(result, Failure) else result
        rows.append(row)
    return rows


def time_plane(name: str, rounds: int) -> dict[str, Any]:
    """Partition one plane in this process: CPU seconds, the floor, and the peaks of memory before and after."""
    module, x, net = PLANES[name].build()
    before = peak_mib()
    found, seconds = _timed(net, x, PLANES[name].extent)
    peak = peak_mib()
    while seconds[0] < 2 and len(seconds) < 2 * rounds:
        found, again = _timed(net, x, PLANES[name].extent)
        seconds += again
    counts = {"regions": found.regions, "vertices": len(found.vertices), "complete": found.complete}
    return counts | {"cpu": seconds, "floor": floor(module, found), "before_mib": before, "peak_mib": peak}


def _timed(net: ma.SplineNetwork, x: Tensor, extent: list[float] | None) -> tuple[PlanePartition, list[float]]:
    start = time.process_time()
    found = ma.partition.plane(net, x, extent=extent, progress=False)
    return found, [time.process_time() - start]


@torch.no_grad()
def floor(module: nn.Module, found: PlanePartition) -> float:
    """CPU seconds of the module's forward pass at all vertices, from that at some of them."""
    some = found.points(found.vertices[:FLOOR_VERTICES])
    seconds = []
    for _ in range(3):
        start = time.process_time()
        module(some)
        seconds.append(time.process_time() - start)
    return min(seconds) * len(found.vertices) / len(some)


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_peer(name: str, peer: str) -> dict[str, Any]:
    """One peer on the same polygon of the network, restricted to the plane: CPU seconds and regions."""
    module, x, net = PLANES[name].build()
    found = ma.partition.plane(net, x, extent=PLANES[name].extent, progress=False)
    outer, *others = module.children()
    if not isinstance(outer, nn.Linear):
        raise TypeError(f"{name} starts with no linear layer")
    first = nn.Linear(2, outer.out_features).double()
    with torch.no_grad():
        first.bias.copy_(outer(found.frame.origin[0][0]))
        first.weight.copy_(outer.weight @ found.frame.basis[0].T)
    return run_peer(peer, nn.Sequential(first, *others), found.vertices.amin(0), found.vertices.amax(0))


GROWING = [(width, 1.0) for width in (16, 32, 64, 128, 256)] + [(256, side) for side in (0.03, 0.1, 0.3)] + [(512, 2.5)]


def growth() -> list[dict[str, Any]]:
    """Planes of MLP 2-wx4-1 on [-s, s]^2, streamed to disk: a row per width w and half side s."""
    rows = []
    for width, side in GROWING:
        found = in_fresh_process(time_stream, width, side)
        rows.append({"failure": found.reason} if isinstance(found, Failure) else found)
    return rows


def time_stream(width: int, side: float) -> dict[str, Any]:
    """Stream one plane to a temporary folder."""
    task = Plane(lambda: mlp(2, *[width] * 4, 1), square, None)
    module, x, net = task.build()
    extent = [1 - side, 1 + side, 1 - side, 1 + side]
    before = peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        tiles = ma.partition.stream_plane(net, folder, x, extent=extent, progress=False)
        seconds, peak = time.process_time() - start, peak_mib()
        vertices = sum(len(tile.vertices) for tile in tiles)
        forward = floor(module, tiles[0]) / len(tiles[0].vertices)
    counts = {"width": width, "side": side, "units": 4 * width, "regions": tiles.regions, "vertices": vertices}
    measured = {"cpu": seconds, "floor": forward * vertices, "before_mib": before, "peak_mib": peak}
    return counts | measured | {"tiles": len(tiles), "complete": tiles.complete}
