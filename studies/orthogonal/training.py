"""One training of the grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxaffine.learning import OrthogonalTemplates, orthogonal_classifier

from .grid import Form, Run
from .networks import network
from .tasks import Task

BATCH = 64
LEARNING_RATE = 1e-3
# Passes over the training data: ten, or more where it is small, so that every training sees at least this many samples.
LEAST_PASSES, LEAST_SAMPLES = 10, 40_000


def trained(run: Run, data: Task) -> nn.Module:
    """Train with Adam, its step size falling to zero along half a cosine; all that is random follows from the seed.

    Trainings that differ in the form alone begin with the same weights and see the same batches in the same order.
    """
    model = network(run.cell.model, data.input_shape, data.classes, run.cell.batch_norm, run.seed)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if run.form.on == "hard":
        orthogonal_classifier(model, data.train.inputs[:2])
    penalty = _penalty(run.form)
    inputs = data.train.inputs.contiguous(memory_format=torch.channels_last)
    steps = _steps(len(inputs))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    generator = torch.Generator().manual_seed(run.seed)
    model.train()
    done = 0
    while done < steps:
        for rows in torch.randperm(len(inputs), generator=generator).split(BATCH):
            x = inputs[rows]
            loss = F.cross_entropy(model(x), data.train.labels[rows])
            if penalty is not None:
                loss = loss + penalty(model, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
    return model.eval()


def _steps(size: int) -> int:
    passes = max(LEAST_PASSES, -(-LEAST_SAMPLES // size))
    return passes * -(-size // BATCH)


def _penalty(form: Form) -> Callable[[nn.Module, Tensor], Tensor] | None:
    if form.on in ("none", "hard"):
        return None
    on = "classifier" if form.on == "classifier" else "maps"
    compare = "products" if form.compare == "products" else "cosines"
    return OrthogonalTemplates(form.weight, on, compare=compare)
