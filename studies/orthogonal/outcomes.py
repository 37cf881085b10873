"""What a trained network is judged by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import maxaffine

from .tasks import Task

NOISES = (0.1, 0.3)
NOISY = 2000
JUDGED_TRAINING = 10_000
QUERIES, NEIGHBORS = 1000, 10
TEMPLATES = 32
BINS = 15


def judge(model: nn.Module, data: Task) -> dict[str, float]:
    """Everything that is recorded of a training."""
    train = data.train.take(slice(0, JUDGED_TRAINING))
    found: dict[str, float] = {}
    for name, split in (("train", train), ("validation", data.validation), ("test", data.test)):
        logits = _logits(model, split.inputs)
        found[f"{name}_accuracy"] = _accuracy(logits, split.labels)
        found[f"{name}_loss"] = float(F.cross_entropy(logits, split.labels))
        if name == "test":
            found["test_ece"] = calibration_error(logits, split.labels)
    noisy = data.test.take(slice(0, NOISY))
    # The same noise for every training, so that differences between trainings are not differences between draws.
    draw = torch.randn(noisy.inputs.shape, generator=torch.Generator().manual_seed(0))
    for sigma in NOISES:
        found[f"noise_{sigma}_accuracy"] = _accuracy(_logits(model, noisy.inputs + sigma * draw), noisy.labels)
    return found | _by_templates(model, data)


def calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error: |accuracy - mean confidence|, averaged over bins of equal width by their members.

    Source: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    confidence, answer = logits.double().softmax(1).max(1)
    right = (answer == labels).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    excess = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, right - confidence)
    return float(excess.abs().sum() / len(labels))


def retrieval(distance: Tensor, query_labels: Tensor, labels: Tensor, count: int) -> float:
    """Share of the nearest stored samples that have the query's class, over all queries."""
    nearest = distance.argsort(dim=1, stable=True)[:, :count]
    return float((labels[nearest] == query_labels[:, None]).double().mean())


def mean_squared_cosine(rows: Tensor) -> float:
    """Mean squared cosine between different rows."""
    directions = F.normalize(rows.double(), dim=-1)
    squares = (directions @ directions.mT).square()
    classes = rows.shape[-2]
    return float((squares.sum((-2, -1)) - squares.diagonal(dim1=-2, dim2=-1).sum(-1)).mean() / (classes**2 - classes))


def _by_templates(model: nn.Module, data: Task) -> dict[str, float]:
    queries, stored = data.test.take(slice(0, QUERIES)), data.train.take(slice(0, 2 * QUERIES))
    net = maxaffine.capture(model, queries.inputs[:2])
    deepest = [record.name for record in net.operators if record.pieces > 1][-1]
    asked, known = (net.codes(split.inputs, operators=[deepest]) for split in (queries, stored))
    distance = maxaffine.codes.code_distance(asked, known)
    slopes = net.affine_map(data.test.inputs[:TEMPLATES]).slopes
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    return {
        "retrieval_1": retrieval(distance, queries.labels, stored.labels, 1),
        "retrieval_10": retrieval(distance, queries.labels, stored.labels, NEIGHBORS),
        "row_cosine": mean_squared_cosine(last.weight.detach()),
        "template_cosine": mean_squared_cosine(torch.as_tensor(slopes).flatten(2)),
    }


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([model(x.contiguous(memory_format=torch.channels_last)) for x in inputs.split(500)])


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())
