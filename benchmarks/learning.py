"""What orthogonal templates add to the cost of a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import maxaffine
from maxaffine._learning import orthogonal_classifier

from .measure import Failure, Timing, in_fresh_process, interleaved
from .networks import OUTPUTS, SUBJECTS

STEP = "step"
# A batch to train with, whatever the batches of the other tables.
BATCH = 64
SAMPLES = 8
# One penalty takes microseconds: a timing holds this many, each with its backward pass.
REPEATS = 20


def learning(network: str, rounds: int) -> dict[str, Any]:
    """The penalty on the classifier alone, and whole steps with the other forms, against a plain step."""
    subject = replace(SUBJECTS[network], batch=BATCH)
    row: dict[str, Any] = {"title": subject.title, "batch": subject.batch, "samples": SAMPLES, "repeats": REPEATS}
    timings = in_fresh_process(time_learning, network, rounds)
    if isinstance(timings, Failure):
        return row | {"failure": timings.reason}
    ratios = {name: timing.ratio(timings[STEP]) for name, timing in timings.items() if name != STEP}
    ratios["classifier"] /= REPEATS
    return row | {"timings": {name: asdict(timing) for name, timing in timings.items()}, "ratios": ratios}


def time_learning(network: str, rounds: int) -> dict[str, Timing]:
    """Interleaved timings of a step, of the penalty's own forward and backward pass, and of steps with the rest."""
    subject = replace(SUBJECTS[network], batch=BATCH)
    model, inputs = subject.build()
    step = _stepper(model.train(), inputs)
    classifier = maxaffine.learning.OrthogonalTemplates(0.1)
    maps = maxaffine.learning.OrthogonalTemplates(0.1, on="maps", samples=SAMPLES, classes=range(OUTPUTS))
    other, _ = subject.build()
    orthogonal_classifier(other.train(), inputs)

    def penalties() -> None:
        for _ in range(REPEATS):
            classifier(model, inputs).backward()

    runs: dict[str, Callable[[], object]] = {
        STEP: step,
        "classifier": penalties,
        "maps": partial(step, maps),
        "hard": _stepper(other, inputs),
    }
    return interleaved(runs, rounds)


def _stepper(model: nn.Module, inputs: Tensor) -> Callable[..., None]:
    """A step of Adam on a batch, with or without a penalty."""
    labels = torch.arange(len(inputs)) % OUTPUTS
    optimizer = torch.optim.Adam(model.parameters())

    def step(penalty: Callable[[nn.Module, Tensor], Tensor] | None = None) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        if penalty is not None:
            loss = loss + penalty(model, inputs)
        loss.backward()
        optimizer.step()

    return step


def seconds(row: dict[str, Any], name: str) -> float:
    """Median CPU seconds of one run of a contestant."""
    return median(row["timings"][name]["cpu"]) / (row["repeats"] if name == "classifier" else 1)
