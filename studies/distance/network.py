"""Everything measured on one network: neighbors by depth before and after training, sensitivity, outliers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from maxaffine.data import DataSet, Split
from maxaffine.models import build, load_model, train
from studies.distance.nearest import accuracy, search
from studies.distance.pictures import CHANGES, changed, digits
from studies.distance.views import Views, distances

EPOCHS = 5
QUERIES, FEW, ALL = 2000, 10_000, 60_000
VOTERS, KEPT = 5, 10
LOOKED_AT = 500
FORMS = ("resized", "padded")
Found = dict[str, tuple[Tensor, Tensor]]


def trained(architecture: str, seed: int, data: DataSet, weights: Path) -> tuple[nn.Module, nn.Module]:
    """A network before and after training; the weights are kept in a file."""
    fresh = build(architecture, data.input_shape, data.classes, seed=seed).eval()
    if weights.exists():
        factory = f"maxaffine.models:{architecture}"
        return fresh, load_model(factory, weights, input_shape=data.input_shape, classes=data.classes).eval()
    weights.parent.mkdir(parents=True, exist_ok=True)
    model = copy.deepcopy(fresh)
    partial = weights.with_suffix(".part.safetensors")
    if train(model, data.train, epochs=EPOCHS, seed=seed, checkpoint=partial).interrupted:
        raise KeyboardInterrupt
    partial.rename(weights)
    return fresh, model.eval()


def study(architecture: str, seed: int, data: DataSet, weights: Path) -> dict[str, Any]:
    """Measure one network."""
    fresh, model = trained(architecture, seed, data, weights)
    queries = queried(data)
    before, after = (Views(network, data.train.inputs) for network in (fresh, model))
    marks = (FEW, ALL) if seed == 0 else (FEW,)
    old = search(before, queries.inputs, data.train.inputs, (FEW,), KEPT)[FEW]
    new = search(after, queries.inputs, data.train.inputs, marks, KEPT)
    with torch.no_grad():
        logits = torch.cat([model(batch) for batch in data.test.inputs.split(1000)])
    return {
        "architecture": architecture,
        "seed": seed,
        "operators": {n: {"title": after.titles[n], "units": _units(after, n)} for n in after.operators},
        "test_accuracy": float((logits.argmax(1) == data.test.labels).double().mean()),
        "query_accuracy": float((model(queries.inputs).argmax(1) == queries.labels).double().mean()),
        "before": _accuracies(old, data.train.labels, queries.labels),
        "after": {str(mark): _accuracies(found, data.train.labels, queries.labels) for mark, found in new.items()},
        "kept": {name: _overlap(old[name][1], found[1]) for name, found in new[FEW].items()},
        "sensitivity": sensitivity(after, data),
        "outliers": {form: outliers(after, queries.inputs, new[FEW], digits(form), data) for form in FORMS},
    }


def queried(data: DataSet) -> Split:
    """The test images that are looked up."""
    return data.test.take(torch.linspace(0, len(data.test) - 1, QUERIES).round().long())


def _units(views: Views, name: str) -> int:
    return next(torch.Size(record.units).numel() for record in views.net.operators if record.name == name)


def _accuracies(found: Found, labels: Tensor, wanted: Tensor) -> dict[str, float]:
    return {name: accuracy(labels, index, wanted, VOTERS) for name, (_, index) in found.items()}


def _overlap(a: Tensor, b: Tensor) -> float:
    """Mean share of the nearest that two searches have in common."""
    return float((a[:, :, None] == b[:, None, :]).any(2).double().mean())


def sensitivity(views: Views, data: DataSet) -> dict[str, dict[str, dict[str, list[float]]]]:
    """How far a change moves an image, as a share of the distance to another image of its class."""
    split = data.test.take(torch.linspace(0, len(data.test) - 1, LOOKED_AT).round().long())
    seen = views(split.inputs)
    alike = (split.labels[:, None] == split.labels[None]) & ~torch.eye(LOOKED_AT, dtype=torch.bool)
    unit = {name: float(d.double()[alike].mean()) for name, d in distances(seen, seen)}
    result: dict[str, dict[str, dict[str, list[float]]]] = {}
    for kind, (_, strengths) in CHANGES.items():
        result[kind] = {name: {"moved": [], "found": []} for name in unit}
        for strength in strengths:
            for name, d in distances(views(changed(split.inputs, kind, strength)), seen):
                result[kind][name]["moved"].append(float(d.double().diagonal().mean()) / unit[name])
                own = d.diagonal() < d.masked_fill(torch.eye(LOOKED_AT, dtype=torch.bool), torch.inf).amin(1)
                result[kind][name]["found"].append(float(own.double().mean()))
    return result


def outliers(views: Views, inside: Tensor, found: Found, outside: Tensor, data: DataSet) -> dict[str, float]:
    """How well scores tell images of the data set from others."""
    others = search(views, outside, data.train.inputs, (FEW,), VOTERS)[FEW]
    scores = {name: torch.cat([found[name][0][:, :VOTERS], distance]).mean(1) for name, (distance, _) in others.items()}
    logits = torch.cat([views(batch).logits for batch in torch.cat([inside, outside]).split(1000)])
    scores["softmax"] = 1 - logits.double().softmax(1).amax(1)
    scores["energy"] = -logits.double().logsumexp(1)
    truth = [0] * len(inside) + [1] * len(outside)
    return {name: float(roc_auc_score(truth, score.numpy())) for name, score in scores.items()}
