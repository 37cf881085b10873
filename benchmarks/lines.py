"""Exact lines against a forward pass at every breakpoint, and exact integrated gradients against captum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from captum.attr import (  # pyright: ignore[reportMissingImports]  # an extra of its own
    IntegratedGradients,
)
from torch import Tensor, nn

import maxaffine
from maxaffine import _models as models

from .measure import Failure, in_fresh_process, interleaved

LINE = "line"
FLOOR = "forward pass at every breakpoint"
EXACT = "exact integrated gradients"
TOLERANCES = (1e-3, 1e-6)
MOST_STEPS = 2**11
CHUNK = 256

NETWORKS: dict[str, tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": ("MLP 784-256-256-10", partial(models.mlp, (784,), 10, widths=(256, 256)), (784,)),
    "cnn": ("CNN 8-16-fc128, 28 px", partial(models.cnn, (1, 28, 28), 10, channels=(8, 16)), (1, 28, 28)),
}


def lines(rounds: int) -> list[dict[str, Any]]:
    """One row per network, ready for JSON."""
    rows = []
    for name, (title, _, _) in NETWORKS.items():
        found = in_fresh_process(time_lines, name, rounds)
        rows.append(
            {"title": title, "failure": found.reason} if isinstance(found, Failure) else {"title": title} | found
        )
    return rows


def time_lines(name: str, rounds: int) -> dict[str, Any]:
    """Interleaved timings in float64 between two normal inputs, and captum's at the steps that each error needs."""
    _, factory, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = factory().double()
    a, b = torch.randn(2, *shape, dtype=torch.float64).split(1)
    with torch.no_grad():
        model.train()(torch.randn(64, *shape, dtype=torch.float64))
    model.eval()
    net = maxaffine.capture(model, a)
    found = maxaffine.partition.line(net, a, b, progress=False)
    target = int(net(b).argmax())
    exact = maxaffine.partition.integrated_gradients(net, b, a, outputs=[target], progress=False)
    points = torch.lerp(a, b, found.breakpoints.view(-1, *([1] * len(shape))))
    steps = {tolerance: steps_for(model, a, b, target, tolerance) for tolerance in TOLERANCES}
    runs: dict[str, Callable[[], object]] = {
        LINE: lambda: maxaffine.partition.line(net, a, b, progress=False),
        FLOOR: partial(forward, model, points),
        EXACT: lambda: maxaffine.partition.integrated_gradients(net, b, a, outputs=[target], progress=False),
    }
    # where no number of steps was enough, the most that was tried
    runs |= {f"{t:g}": partial(captum, model, a, b, target, n or MOST_STEPS) for t, n in steps.items()}
    timings = interleaved(runs, rounds, seconds=10)
    return {
        "pieces": found.pieces,
        "crossings": len(found.crossings),
        "completeness": exact.completeness,
        "steps": {f"{tolerance:g}": count for tolerance, count in steps.items()},
        "timings": {key: asdict(timing) for key, timing in timings.items()},
        "ratio": timings[LINE].ratio(timings[FLOOR]),
        "captum": {f"{t:g}": timings[f"{t:g}"].ratio(timings[EXACT]) for t in TOLERANCES},
        "reached": completeness(model, a, b, target, MOST_STEPS),
    }


@torch.no_grad()
def forward(model: nn.Module, points: Tensor) -> None:
    """A plain forward pass at all points, some at a time."""
    for part in points.split(CHUNK):
        model(part)


def captum(model: nn.Module, a: Tensor, b: Tensor, target: int, steps: int) -> Tensor:
    """Captum's integrated gradients by the rule of middles (the nodes of its default take n^3), CHUNK steps at once."""
    explain = IntegratedGradients(model).attribute
    return explain(b, a, target=target, n_steps=steps, method="riemann_middle", internal_batch_size=CHUNK)


def completeness(model: nn.Module, a: Tensor, b: Tensor, target: int, steps: int) -> float:
    """|sum of the attributions - (f(b) - f(a))|, relative to the larger of the two outputs."""
    with torch.no_grad():
        start, end = model(a)[0, target], model(b)[0, target]
    gap = captum(model, a, b, target, steps).sum() - (end - start)
    return float(gap.abs() / torch.stack([start, end]).abs().max())


def steps_for(model: nn.Module, a: Tensor, b: Tensor, target: int, tolerance: float) -> int | None:
    """The first power of two of steps that is within the error, and twice as many too; None up to MOST_STEPS."""
    steps, within = 8, 0
    while steps <= MOST_STEPS:
        within = within + 1 if completeness(model, a, b, target, steps) <= tolerance else 0
        if within == 2:
            return steps // 2
        steps *= 2
    return None
