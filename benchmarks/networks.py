"""The four networks of the comparison and the batches they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from maxaffine import _models as models

OUTPUTS = 10


@dataclass(frozen=True)
class Subject:
    """A network, the shape of one input, and the batch size of the comparison."""

    title: str
    factory: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int

    def build(self) -> tuple[nn.Module, Tensor]:
        """The network in eval mode, with batch-norm statistics of normal inputs, and a batch (N, *in)."""
        torch.manual_seed(0)
        model = self.factory()
        inputs = torch.randn(self.batch, *self.shape)
        with torch.no_grad():
            model.train()(inputs)
        return model.eval(), inputs


SUBJECTS: Mapping[str, Subject] = {
    "mlp": Subject("MLP 784-512-512-10", partial(models.mlp, (784,), OUTPUTS), (784,), 64),
    "cnn": Subject(
        "CNN 32-64-fc128, 28 px", partial(models.cnn, (1, 28, 28), OUTPUTS, channels=(32, 64)), (1, 28, 28), 64
    ),
    "resnet18": Subject("ResNet-18, 32 px", partial(models.resnet18, (3, 32, 32), OUTPUTS), (3, 32, 32), 16),
    "mobilenet": Subject(
        "MobileNetV2, 224 px, 10 of 1000 outputs", partial(models.mobilenet, (3, 224, 224), 1000), (3, 224, 224), 8
    ),
}
