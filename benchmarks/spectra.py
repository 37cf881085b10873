"""Singular values of generators: the library against batched Jacobians of torch.func with torch.linalg.svdvals.

Two decoders of Fashion-MNIST and a DCGAN (its widths; random weights, since speed does not depend on them). The peer's
Jacobians are forward mode, `vmap(jacfwd)`, in the largest batches that stay within the library's own block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine import generators

from .measure import Failure, in_fresh_process, interleaved, peak_extra_memory

BLOCK = 64 * 2**20  # bytes of Jacobians together


def dense() -> nn.Sequential:
    """A fully connected decoder of 16 latents."""
    layers = (nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(512, 784))


def convolutional() -> nn.Sequential:
    """A decoder of 16 latents with transposed convolutions."""
    start = (nn.Linear(16, 64 * 49), nn.ReLU(), nn.Unflatten(1, (64, 7, 7)))
    middle = (nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU())
    return nn.Sequential(*start, *middle, nn.ConvTranspose2d(32, 1, 4, 2, 1))


def dcgan() -> nn.Sequential:
    """The generator of DCGAN for 64 x 64 faces, before its tanh."""
    widths, layers = (100, 512, 256, 128, 64), [nn.Unflatten(1, (100, 1, 1))]
    for place, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False)):
        stride = (1, 0) if place == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(fan_in, fan_out, 4, *stride, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False))


# Title, network, latents S, numbers D, samples.
SUBJECTS: dict[str, tuple[str, Callable[[], nn.Sequential], int, int, int]] = {
    "dense": ("dense decoder, 28 px", dense, 16, 784, 500),
    "convolutional": ("convolutional decoder, 28 px", convolutional, 16, 784, 100),
    "dcgan": ("DCGAN, 64 px", dcgan, 100, 12288, 8),
}


def contestants(name: str) -> dict[str, Callable[[], Tensor]]:
    """Jacobians alone, their singular values, and ours, on one network."""
    _, build, latents, numbers, count = SUBJECTS[name]
    torch.manual_seed(0)
    model = build().eval().requires_grad_(False)
    z = torch.randn(count, latents)
    net = ma.capture(model, z[:2])
    jacobians = torch.func.vmap(torch.func.jacfwd(lambda own: model(own[None])[0].flatten()))
    parts = z.split(max(1, BLOCK // (4 * latents * numbers)))
    return {
        "jacobians": lambda: torch.cat([jacobians(part)[:, 0] for part in parts]),
        "peer": lambda: torch.cat([torch.linalg.svdvals(jacobians(part)) for part in parts]),
        "ours": lambda: generators.spectrum(net, z),
    }


def memory_of(name: str, way: str) -> float:
    """Extra MiB of one call, after a first."""
    run = contestants(name)[way]
    run()
    return peak_extra_memory(run)


def time_all(name: str, rounds: int) -> dict[str, float]:
    """CPU milliseconds of each sample at the median, ratios round by round, and how far the values are apart."""
    runs = contestants(name)
    one, two = runs["peer"](), runs["ours"]()
    timings = interleaved(runs, rounds)
    count = SUBJECTS[name][4]
    found = {f"{way} ms": 1e3 * sorted(timing.cpu)[len(timing.cpu) // 2] / count for way, timing in timings.items()}
    ratios = {f"of {way}": timings["ours"].ratio(timings[way]) for way in ("peer", "jacobians")}
    return found | ratios | {"error": float(((one - two).abs() / one[:, :1]).max())}


def compare(rounds: int) -> list[dict[str, Any]]:
    """A row for each network."""
    rows = []
    for name, (title, *_) in SUBJECTS.items():
        timed = in_fresh_process(time_all, name, rounds)
        memory = {f"{way} MiB": in_fresh_process(memory_of, name, way) for way in ("peer", "ours")}
        for found in (timed, *memory.values()):
            if isinstance(found, Failure):
                raise RuntimeError(f"{name}: {found.reason}")
        rows.append({"title": title, **timed, **memory})
    return rows
