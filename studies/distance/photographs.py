"""The baseline that learned to see elsewhere: EfficientNet-Lite0 with its ImageNet weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import maxaffine as ma
from examples.real_networks.published import efficientnet_lite0
from maxaffine.data import DataSet
from studies.distance.nearest import accuracy, search
from studies.distance.network import FEW, KEPT, VOTERS, queried
from studies.distance.views import Seen, Views, distances, euclidean

SIDE = 64
# The outputs of these blocks make the perceptual distance; the first, the largest, is left out for its size.
STAGES = ("_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15")
PERCEPTUAL, POOLED = "perceptual", "pooled"


class Photographs:
    """What EfficientNet-Lite0 sees of gray images.

    Args:
        images: Some images for the capture.
    """

    def __init__(self, images: Tensor) -> None:
        self.model = efficientnet_lite0()
        probe = Views(self.model, enlarged(images[:2]))
        self.views = Views(self.model, enlarged(images[:2]), probe.operators[-1:])
        self.title = next(iter(self.views.titles.values()))

    def __call__(self, images: Tensor) -> Seen:
        """Look at some images."""
        kept: list[Tensor] = []
        modules = [self.model.get_submodule(name) for name in STAGES]
        hooks = [module.register_forward_hook(lambda *call: kept.append(_unit(call[2]))) for module in modules]
        parts = []
        for batch in images.split(100):
            seen = self.views(enlarged(batch))
            stages, kept[:] = kept[: len(STAGES)], []
            parts.append((seen, torch.cat(stages, 1)))
        for hook in hooks:
            hook.remove()
        (name,) = self.views.operators
        last = torch.cat([seen.features[name] for seen, _ in parts])
        features = {
            name: last,
            POOLED: last.view(len(images), 1280, -1).mean(2),
            PERCEPTUAL: torch.cat([stages for _, stages in parts]),
        }
        logits = torch.cat([seen.logits for seen, _ in parts])
        return Seen(images, ma.Codes.concat([seen.codes for seen, _ in parts]), features, logits)


def between(a: Seen, b: Seen):
    """The distances of `distances`, and two more features."""
    yield from distances(a, b)
    yield PERCEPTUAL, euclidean(a.features[PERCEPTUAL], b.features[PERCEPTUAL])
    yield f"l2|{POOLED}", euclidean(a.features[POOLED], b.features[POOLED])
    yield f"cosine|{POOLED}", 1 - F.normalize(a.features[POOLED]) @ F.normalize(b.features[POOLED]).T


def study(data: DataSet) -> dict[str, Any]:
    """Classify by the nearest neighbors in what the network sees."""
    queries = queried(data)
    look = Photographs(data.train.inputs)
    found = search(look, queries.inputs, data.train.inputs, (FEW,), KEPT, between)[FEW]
    return {
        "title": look.title,
        "side": SIDE,
        "after": {name: accuracy(data.train.labels, i, queries.labels, VOTERS) for name, (_, i) in found.items()},
    }


def enlarged(images: Tensor) -> Tensor:
    """Gray images as the network takes them."""
    large = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return ((255 * large - 127) / 128).expand(-1, 3, -1, -1).contiguous()


def _unit(stage: Tensor) -> Tensor:
    """Unit vectors over the channels at every place, so that squared distances are means over the places."""
    places = stage.shape[-2] * stage.shape[-1]
    return (F.normalize(stage, dim=1) / places**0.5).flatten(1)
