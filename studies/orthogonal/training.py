"""One training of the grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxaffine.learning import CentroidAlignment, OrthogonalTemplates, orthogonal_classifier

from .grid import SCRIPT, Run
from .networks import network
from .tasks import Task

BATCH = 64
LEARNING_RATE = 1e-3
# Passes over the training data: ten, or more where it is small, so that every training sees at least this many samples.
LEAST_PASSES, LEAST_SAMPLES = 10, 40_000
SCRIPT_PASSES, SCRIPT_BATCH = 120, 50


def trained(run: Run, data: Task) -> nn.Module:
    """Train with Adam; all that is random follows from the seed.

    Our recipe lets the step size fall to zero along half a cosine; the script keeps it. Trainings that differ in the
    form alone begin with the same weights and see the same batches in the same order.
    """
    model = network(run.cell.model, data.input_shape, data.classes, run.cell.batch_norm, run.seed)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if run.form.on == "hard":
        orthogonal_classifier(model, data.train.inputs[:2])
    penalty = _penalty(run)
    inputs = data.train.inputs.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    rates = torch.optim.lr_scheduler
    generator = torch.Generator().manual_seed(run.seed)
    if run.cell.recipe == SCRIPT:
        batches = _balanced(data, generator)
        schedule = rates.ConstantLR(optimizer, factor=1)
    else:
        batches = _shuffled(len(inputs), generator)
        schedule = rates.CosineAnnealingLR(optimizer, T_max=_steps(len(inputs)))
    model.train()
    for rows in batches:
        x = inputs[rows]
        loss = F.cross_entropy(model(x), data.train.labels[rows])
        if penalty is not None:
            loss = loss + penalty(model, x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _steps(size: int) -> int:
    passes = max(LEAST_PASSES, -(-LEAST_SAMPLES // size))
    return passes * -(-size // BATCH)


def _shuffled(size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The rows of every step: all samples in a new order, pass after pass."""
    for _ in range(_steps(size) // -(-size // BATCH)):
        yield from torch.randperm(size, generator=generator).split(BATCH)


def _balanced(data: Task, generator: torch.Generator) -> Iterator[Tensor]:
    """The rows of every step: equally many samples of each class, drawn anew for every batch."""
    of_class = [(data.train.labels == label).nonzero()[:, 0] for label in range(data.classes)]
    each = SCRIPT_BATCH // data.classes
    for _ in range(SCRIPT_PASSES * (len(data.train) // SCRIPT_BATCH)):
        yield torch.cat([rows[torch.randperm(len(rows), generator=generator)[:each]] for rows in of_class])


def _penalty(run: Run) -> Callable[[nn.Module, Tensor], Tensor] | None:
    form = run.form
    if form.on in ("none", "hard"):
        return None
    if form.on == "centroids":
        return CentroidAlignment(form.weight)
    on = "classifier" if form.on == "classifier" else "maps"
    compare = "products" if form.compare == "products" else "cosines"
    # The script takes the templates of the whole batch, in training mode.
    options: dict = {"samples": SCRIPT_BATCH, "statistics": "batch"} if run.cell.recipe == SCRIPT else {}
    return OrthogonalTemplates(form.weight, on, compare=compare, **options)
