"""All regions of a box, beside a package that builds them as a tree of linear programs."""

from __future__ import annotations

import contextlib
import io
from importlib.metadata import version
from typing import Any

import torch

import maxaffine as ma

from .measure import Failure, in_fresh_process, interleaved
from .plane_peers import tree
from .planes import mlp

BOXES = {"2-16x2-1": (2, 16, 16, 1), "3-16x2-1": (3, 16, 16, 1), "4-12x2-1": (4, 12, 12, 1), "5-10x2-1": (5, 10, 10, 1)}
PEER = "affinitree"


def compare(rounds: int) -> list[dict[str, Any]]:
    """One row per network, ready for JSON."""
    rows = []
    for name in BOXES:
        found = in_fresh_process(time_box, name, rounds)
        rows.append({"title": name} | ({"failure": found.reason} if isinstance(found, Failure) else found))
    return rows


def time_box(name: str, rounds: int) -> dict[str, Any]:
    """CPU seconds of both on (-1, 1), in turn, and what each finds."""
    torch.manual_seed(0)
    size = BOXES[name][0]
    module = mlp(*BOXES[name]).double()
    net = ma.capture(module, torch.zeros(1, size, dtype=torch.float64))
    peer = tree(module, -torch.ones(size), torch.ones(size))

    def quietly() -> int:
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            return peer()

    runs = {"maxaffine": lambda: len(ma.partition.regions(net, (-1, 1), progress=False)), PEER: quietly}
    timings = interleaved(runs, rounds)
    return {
        "regions": {who: run() for who, run in runs.items()},
        "cpu": {who: timing.cpu for who, timing in timings.items()},
        "ratio": timings[PEER].ratio(timings["maxaffine"]),
        "version": version(PEER),
    }
