"""Exact surfaces of signed distances, learned here or published, beside marching cubes and edge subdivision."""

from __future__ import annotations

import os
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.measure import marching_cubes
from torch import Tensor, nn

import maxaffine
from maxaffine import _models as models

from .measure import Failure, in_fresh_process
from .plane_peers import FOLDER
from .subdivision import surface_subdivision

STEPS, NODES, CHUNK = 1500, (32, 48, 64, 96, 128, 192, 256), 2**16
PEER_SECONDS = 120
NETWORKS = {
    "3-16x3-1": partial(models.mlp, (3,), 1, widths=(16,) * 3),
    "3-32x3-1": partial(models.mlp, (3,), 1, widths=(32,) * 3),
    "3-32x8-1": partial(models.mlp, (3,), 1, widths=(32,) * 8),
}
# A bunny, of edge subdivision's author, in the box (-1/2, 1/2).
PUBLISHED = {"bunny 3-16x3-1": ("3,3x16", NETWORKS["3-16x3-1"]), "bunny 3-32x8-1": ("3,8x32", NETWORKS["3-32x8-1"])}


def surfaces() -> list[dict[str, Any]]:
    """One row per network, ready for JSON."""
    rows = []
    for title in (*NETWORKS, *(PUBLISHED if FOLDER in os.environ else ())):
        found = in_fresh_process(time_surface, title)
        row = {"title": title} | ({"failure": found.reason} if isinstance(found, Failure) else found)
        # What it takes is not known before; so it gets an interpreter of its own, which ends with its time.
        peer = in_fresh_process(time_subdivision, title)
        killed = {"subdivision": f"not in {PEER_SECONDS} CPU s"}
        rows.append(row | (killed | {"reason": peer.reason} if isinstance(peer, Failure) else peer))
    return rows


def time_subdivision(title: str) -> dict[str, Any]:
    """CPU seconds of edge subdivision, the fewer of two runs where it takes a few, and its polygons."""
    model, side = network(title)
    corner = np.full(3, side)
    start = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(start) + PEER_SECONDS, resource.RLIM_INFINITY))
    (skeleton, polygons), first = surface_subdivision(model, -corner, corner), time.process_time() - start
    again = timed(lambda: surface_subdivision(model, -corner, corner))[0] if first < PEER_SECONDS / 10 else first
    return {
        "subdivision": min(first, again),
        "subdivision polygons": polygons,
        "subdivision vertices": len(skeleton.points),
    }


def time_surface(title: str) -> dict[str, Any]:
    """The surface, and marching cubes on the first grid that takes as long, each the faster of two runs."""
    model, side = network(title)
    net = maxaffine.capture(model, torch.zeros(1, 3, dtype=torch.float64))
    seconds, found = timed(lambda: maxaffine.partition.surface(net, bounds=(-side, side), progress=False))
    row = {"polygons": len(found), "euler": found.euler, "watertight": found.watertight, "seconds": seconds}
    row |= {"residual": found.residual(model)}
    for nodes in NODES:
        taken, (vertices, faces) = timed(partial(cubes, model, side, nodes))
        mean, largest = off(model, vertices[faces].mean(1))
        row |= {"nodes": nodes, "cubes seconds": taken, "triangles": len(faces), "mean": mean, "largest": largest}
        if taken >= seconds:
            break
    return row


def network(title: str) -> tuple[nn.Module, float]:
    """A network, and half the side of its box."""
    if title in NETWORKS:
        return trained(NETWORKS[title]), 1.0
    name, factory = PUBLISHED[title]
    weights = torch.load(Path(os.environ[FOLDER]) / "models" / f"{name},relu,bunny", weights_only=True)
    model = factory()
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.double().eval(), 0.5


def trained(factory: Any) -> nn.Module:
    """A network that has learned how far a point is from a torus."""
    torch.manual_seed(0)
    model = factory()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, STEPS)
    for _ in range(STEPS):
        points = 2 * torch.rand(512, 3) - 1
        around = torch.hypot(points[:, 0], points[:, 1]) - 0.6
        loss = (model(points)[:, 0] - torch.hypot(around, points[:, 2]) + 0.25).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.double().eval()


def timed(run: Any) -> tuple[float, Any]:
    """The fewer CPU seconds of two runs, and what the second gave."""
    taken, found = [], None
    for _ in range(2):
        start = time.process_time()
        found = run()
        taken.append(time.process_time() - start)
    return min(taken), found


@torch.no_grad()
def cubes(model: nn.Module, side: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of marching cubes over a grid of nodes."""
    axis = torch.linspace(-side, side, nodes, dtype=torch.float64)
    values = torch.cat([model(part)[:, 0] for part in torch.cartesian_prod(axis, axis, axis).split(CHUNK)])
    vertices, faces, _, _ = marching_cubes(values.reshape(nodes, nodes, nodes).numpy(), 0.0)
    return vertices.astype(np.float64) * 2 * side / (nodes - 1) - side, faces


def off(model: nn.Module, places: np.ndarray) -> tuple[float, float]:
    """How far places are from the surface, to first order, |f| over its slope: the mean and the largest."""
    points: Tensor = torch.from_numpy(places).requires_grad_()
    value = model(points)[:, 0]
    (slope,) = torch.autograd.grad(value.sum(), points)
    distance = value.detach().abs() / slope.norm(dim=1)
    return float(distance.mean()), float(distance.max())
