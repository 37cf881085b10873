"""Outliers of a nearer kind: two classes of the same data set that the network never saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maxaffine.data import DataSet, Split
from studies.distance.nearest import search
from studies.distance.network import FEW, VOTERS, outliers, queried, trained
from studies.distance.views import Views

# Sandal and bag: like some kept classes, and unlike all others.
HELD_OUT = (5, 8)


def study(architecture: str, seed: int, data: DataSet, weights: Path) -> dict[str, Any]:
    """Train without two classes and tell their images from those of the others."""
    queries = queried(data)
    inside = _without(queries)
    kept = replace(
        data,
        train=_without(data.train),
        test=_without(data.test),
        class_names=tuple(name for label, name in enumerate(data.class_names) if label not in HELD_OUT),
    )
    _, model = trained(architecture, seed, kept, weights)
    outside = queries.inputs[torch.isin(queries.labels, torch.tensor(HELD_OUT))]
    views = Views(model, kept.train.inputs)
    found = search(views, inside.inputs, kept.train.inputs, (FEW,), VOTERS)[FEW]
    scores = outliers(views, inside.inputs, found, outside, kept)
    names = [data.class_names[label] for label in HELD_OUT]
    return {"architecture": architecture, "seed": seed, "held_out": names, "titles": views.titles, "outliers": scores}


def _without(split: Split) -> Split:
    rest = [label for label in range(int(split.labels.max()) + 1) if label not in HELD_OUT]
    numbers = torch.full((max(rest) + 2 + len(HELD_OUT),), -1)
    numbers[torch.tensor(rest)] = torch.arange(len(rest))
    inside = split.take(numbers[split.labels] >= 0)
    return Split(inside.inputs, numbers[inside.labels])
