"""Who else finds the regions of a fully connected network on a rectangle: published algorithms and packages."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .subdivision import edge_subdivision

PEER_SECONDS = 60
PEER_ROUNDS_SECONDS = 0.5
PACKAGES = ("regioncam", "relucent", "affinitree")
AUTHORS = "edge subdivision, its author's"
PLANES_ALONE = ("edge subdivision", AUTHORS, "regioncam")
PEERS = (*PLANES_ALONE, "relucent", "affinitree")
# A folder with a clone of https://github.com/arturs-berzins/relu_edge_subdivision, which is not a package.
FOLDER = "EDGE_SUBDIVISION"


def run_peer(peer: str, network: nn.Sequential, low: Tensor, high: Tensor) -> dict[str, Any]:
    """CPU seconds and regions of one peer.

    Args:
        peer: One of `PEERS`.
        network: Linear layers of two inputs, with a ReLU between each two, in float64.
        low: (2,) the corner of the rectangle with the least coordinates.
        high: (2,) the opposite one.

    Returns:
        ``cpu`` and ``regions``.
    """
    work, seconds, regions = _PREPARED[peer](network, low, high), [], 0
    while sum(seconds) < PEER_ROUNDS_SECONDS:
        start = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            regions = work()
        seconds.append(time.process_time() - start)
    return {"cpu": min(seconds), "regions": regions}


def _subdivision(network: nn.Sequential, low: Tensor, high: Tensor) -> Callable[[], int]:
    left, bottom, right, top = *low.tolist(), *high.tolist()
    return lambda: edge_subdivision(network, (left, right, bottom, top)).regions


def _authors(network: nn.Sequential, low: Tensor, high: Tensor) -> Callable[[], int]:
    """The author's own program: its network ends in the last hidden layer, whose units are the last to divide."""
    if FOLDER not in os.environ:
        raise LookupError(f"{FOLDER} is not set")
    sys.path.insert(0, os.environ[FOLDER])
    program, networks = importlib.import_module("edge_subdivision"), importlib.import_module("NN")
    # It asks for float32 by this name; the process is its own.
    torch.set_default_dtype(torch.float64)
    Tensor.float = Tensor.double
    hidden = [layer for layer in network if isinstance(layer, nn.Linear)][:-1]
    net = networks.Net([2, *(layer.out_features for layer in hidden)])
    net.fcs = nn.ModuleList(hidden)

    def work() -> int:
        vertices, edges, _ = program.skeletal_subdivision(net, (low, high), device=torch.device("cpu"), verbose=False)
        return 1 - len(vertices) + len(edges)

    return work


def _regioncam(network: nn.Sequential, low: Tensor, high: Tensor) -> Callable[[], int]:
    """Its square of half side 1, to which the rectangle is scaled; in float32, the type that it computes in."""
    regioncam: Any = importlib.import_module("regioncam")
    affine = [layer for layer in network if isinstance(layer, nn.Linear)]
    rows = [(layer.weight.detach().T, layer.bias.detach()) for layer in affine]
    weight, bias = rows[0]
    rows[0] = (weight * ((high - low) / 2)[:, None], (low + high) / 2 @ weight + bias)
    layers = [[item.float().contiguous().numpy() for item in pair] for pair in rows]

    def work() -> int:
        plane = regioncam.Regioncam(size=1.0)
        for number, layer in enumerate(layers):
            if number:
                plane.relu()
            plane.linear(*layer)
        return plane.num_faces

    return work


def _relucent(network: nn.Sequential, low: Tensor, high: Tensor) -> Callable[[], int]:
    """Its breadth-first search of the cells that meet the square, in one process, without its check at the end."""
    relucent: Any = importlib.import_module("relucent")
    centered, radius = _centered(network, low, high)

    def work() -> int:
        cells = relucent.Complex(centered)
        cells.bfs(cube_radius=radius, cube_mode="intersect", nworkers=1, verify=False, verbose=0)
        return len(cells)

    _limit_time()
    return work


def _affinitree(network: nn.Sequential, low: Tensor, high: Tensor) -> Callable[[], int]:
    _limit_time()
    return tree(network, low, high)


def tree(network: nn.Sequential, low: Tensor, high: Tensor) -> Callable[[], int]:
    """Affinitree's decision tree of a network on a box; terminals are the regions of the path that leads to each."""
    affinitree: Any = importlib.import_module("affinitree")
    size = len(low)

    def work() -> int:
        sides = affinitree.Polytope.hyperrectangle(size, list(zip(low.tolist(), high.tolist(), strict=True)))
        box = affinitree.AffTree.from_poly(sides, affinitree.AffFunc.identity(size), None)
        layers = affinitree.extract_pytorch_architecture(size, network)
        return affinitree.builder.from_layers(layers, box, None).num_terminals()

    return work


def _centered(network: nn.Sequential, low: Tensor, high: Tensor) -> tuple[nn.Sequential, float]:
    """The same network with the middle of the square at the origin, and half the square's side."""
    outer, *others = network
    if not isinstance(outer, nn.Linear):
        raise TypeError("the network starts with no linear layer")
    first = nn.Linear(2, outer.out_features).double()
    with torch.no_grad():
        first.weight.copy_(outer.weight)
        first.bias.copy_(outer((low + high) / 2))
    return nn.Sequential(first, *others), float((high - low)[0] / 2)


def _limit_time() -> None:
    """End this process when it has taken too long."""
    used = int(time.process_time()) + PEER_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (used, used))


_PREPARED: Mapping[str, Callable[[nn.Sequential, Tensor, Tensor], Callable[[], int]]] = {
    "edge subdivision": _subdivision,
    AUTHORS: _authors,
    "regioncam": _regioncam,
    "relucent": _relucent,
    "affinitree": _affinitree,
}
