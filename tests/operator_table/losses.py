"""Loss layers: with one value per sample some are piecewise affine; averaged over a batch they mix its samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.operator_table.row import VECTOR, Row, integers, layer, module, refused
from tests.zoo.networks import Net


def _towards(name: str, target: Callable[[], Tensor], *, shape: Any = VECTOR, variant: str = "", **options: Any) -> Row:
    """A loss against one constant target for all samples, one value per sample or entry."""

    def body(m: Any, x: Tensor) -> Tensor:
        return m.loss(x, m.target.expand(x.shape[0], *m.target.shape))

    text = variant or ", ".join([*(f"{key}={value!r}" for key, value in options.items()), "reduction='none'"])

    def factory() -> nn.Module:
        return Net(body, loss=getattr(nn, name)(reduction="none", **options), target=target())

    return module(name, shape, text, factory)


def normal() -> Tensor:
    """A target of normal numbers."""
    return torch.randn(6)


def probabilities() -> Tensor:
    """A target of probabilities."""
    return torch.rand(6).softmax(-1)


def signs() -> Tensor:
    """A target of ones and minus ones."""
    return torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])


def label() -> Tensor:
    """A class."""
    return torch.tensor(2)


def labels() -> Tensor:
    """The classes of one sample, ended by -1."""
    return torch.tensor([3, 0, -1, -1, -1, -1])


def _pair(name: str, sign: float = -1.0, **options: Any) -> Row:
    """A loss of two inputs and a constant sign."""

    def body(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return m.loss(x, y, m.sign.expand(x.shape[0], *m.sign.shape))

    shape: Any = ((), ()) if name == "MarginRankingLoss" else (VECTOR, VECTOR)
    text = ", ".join([*(f"{key}={value!r}" for key, value in options.items()), "reduction='none'"])
    return module(
        name,
        shape,
        text,
        lambda: Net(body, loss=getattr(nn, name)(reduction="none", **options), sign=torch.tensor(sign)),
    )


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """The distance in the 1-norm."""
    return (x - y).abs().sum(-1)


THREE = (VECTOR, VECTOR, VECTOR)

LAYERS = (
    _towards("L1Loss", normal),
    layer("L1Loss", (VECTOR, VECTOR), reduction="none", variant="of two inputs, reduction='none'"),
    _towards("HingeEmbeddingLoss", signs, margin=0.5),
    _pair("MarginRankingLoss", margin=0.3),
    _towards("NLLLoss", label),
    layer("NLLLoss", (VECTOR, integers(6)), reduction="none", variant="target an input, reduction='none'"),
    _towards("KLDivLoss", probabilities),
    _towards("MultiMarginLoss", label, margin=0.7),
    layer("TripletMarginLoss", THREE, p=1.0, reduction="none"),
    layer(
        "TripletMarginWithDistanceLoss",
        THREE,
        distance_function=_apart,
        reduction="none",
        variant="distance_function=1-norm, reduction='none'",
    ),
    *refused(
        layer("L1Loss", (VECTOR, VECTOR)),
        layer("MSELoss", (VECTOR, VECTOR)),
        _towards("MSELoss", normal),
        _towards("SmoothL1Loss", normal),
        _towards("HuberLoss", normal),
        module(
            "BCELoss",
            (VECTOR, VECTOR),
            "after a hard sigmoid",
            lambda: Net(lambda m, x, y: m.loss(F.hardsigmoid(x), F.hardsigmoid(y)), loss=nn.BCELoss()),
        ),
        _towards("BCEWithLogitsLoss", probabilities),
        _towards("CrossEntropyLoss", label),
        layer("CrossEntropyLoss", (VECTOR, integers(6)), variant="target an input"),
        layer("KLDivLoss", (VECTOR, VECTOR), reduction="none", variant="of two inputs, reduction='none'"),
        _towards("PoissonNLLLoss", normal),
        _towards("PoissonNLLLoss", normal, log_input=False),
        _towards("SoftMarginLoss", signs),
        _towards("MultiLabelSoftMarginLoss", signs),
        _towards("MultiMarginLoss", label, p=2),
        _pair("CosineEmbeddingLoss", 1.0),
        layer("TripletMarginLoss", THREE, reduction="none"),
        module(
            "GaussianNLLLoss",
            (VECTOR, VECTOR),
            "constant variance",
            lambda: Net(
                lambda m, x, y: m.loss(x, y, m.v.expand_as(x)),
                loss=nn.GaussianNLLLoss(reduction="none"),
                v=probabilities(),
            ),
        ),
        layer("AdaptiveLogSoftmaxWithLoss", (VECTOR, integers(8)), 6, 8, [3, 5]),
        layer("LinearCrossEntropyLoss", (VECTOR, integers(4)), 6, 4),
        module("CTCLoss", (5, 4), "", lambda: Net(connected, loss=nn.CTCLoss(reduction="none"))),
        layer("NLLLoss2d", ((3, 2, 2), integers(3, 2, 2))),
    ),
    *refused(_towards("MultiLabelMarginLoss", labels), though_affine="PyTorch takes it apart wrongly"),
    layer("PairwiseDistance", (VECTOR, VECTOR), 1.0),
    layer("PairwiseDistance", (VECTOR, VECTOR), float("inf"), keepdim=True),
    *refused(
        layer("PairwiseDistance", (VECTOR, VECTOR)),
        layer("CosineSimilarity", (VECTOR, VECTOR)),
    ),
)


def connected(m: Any, x: Tensor) -> Tensor:
    """Connectionist temporal classification of one constant target."""
    batch = x.shape[0]
    target = torch.tensor([[1, 2]]).expand(batch, -1)
    lengths = torch.full((batch,), 2)
    return m.loss(x.transpose(0, 1).log_softmax(-1), target, torch.full((batch,), 5), lengths)
