"""Containers, and tables read at integer places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.operator_table.row import VECTOR, function, integers, layer, module, refused
from tests.zoo.networks import Net


def in_order(m: Any, x: Tensor) -> Tensor:
    """The parts of a list, one after the other."""
    for part in m.parts:
        x = part(x)
    return x


def by_name(m: Any, x: Tensor) -> Tensor:
    """Two branches of a dictionary, added."""
    return m.parts["a"](x) + m.parts["b"](x)


def scale_and_shift(*keys: Any) -> Any:
    """The input times one parameter plus another, from a container."""
    return lambda m, x: x * m.parts[keys[0]] + m.parts[keys[1]]


BAGS = "bags are told apart by positions in the whole batch"

LAYERS = (
    module(
        "Sequential", VECTOR, "Linear, ReLU, Linear", lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    ),
    module(
        "ModuleList", VECTOR, "run in order", lambda: Net(in_order, parts=nn.ModuleList([nn.Linear(6, 6), nn.ReLU()]))
    ),
    module(
        "ModuleDict",
        VECTOR,
        "two branches added",
        lambda: Net(by_name, parts=nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Hardtanh()})),
    ),
    module(
        "ParameterList",
        VECTOR,
        "a scale and a shift",
        lambda: Net(scale_and_shift(0, 1), parts=nn.ParameterList([torch.randn(6), torch.randn(6)])),
    ),
    module(
        "ParameterDict",
        VECTOR,
        "a scale and a shift",
        lambda: Net(scale_and_shift("s", "t"), parts=nn.ParameterDict({"s": torch.randn(6), "t": torch.randn(6)})),
    ),
    module(
        "DataParallel",
        VECTOR,
        "without an accelerator",
        lambda: nn.DataParallel(nn.Sequential(nn.Linear(6, 3), nn.ReLU())),
    ),
    module(
        "Embedding",
        (VECTOR, integers(5)),
        "added to another input",
        lambda: Net(lambda m, x, i: F.relu(x + m.table(i)), table=nn.Embedding(5, 6)),
    ),
    *refused(
        module(
            "EmbeddingBag",
            (VECTOR, integers(5, 3)),
            "added to another input",
            lambda: Net(lambda m, x, i: F.relu(x + m.table(i)), table=nn.EmbeddingBag(5, 6)),
        ),
        module(
            "EmbeddingBag",
            ((3,), integers(5, 3)),
            "mode='sum', per_sample_weights the input",
            lambda: Net(lambda m, x, i: m.table(i, per_sample_weights=x), table=nn.EmbeddingBag(5, 6, mode="sum")),
        ),
        though_affine=BAGS,
    ),
    *refused(
        layer("Embedding", integers(5, 3), 5, 6),
        layer("EmbeddingBag", integers(5, 3), 5, 6, mode="max"),
        though_affine="it is constant: no input is a number to be affine in",
    ),
)

FUNCTIONS = (
    function(
        "embedding",
        (VECTOR, integers(5)),
        lambda m, x, i: x + F.embedding(i, m.w),
        "added to another input",
        {"w": (5, 6)},
    ),
    *refused(
        function(
            "embedding_bag",
            (VECTOR, integers(5, 3)),
            lambda m, x, i: x + F.embedding_bag(i, m.w, mode="max"),
            "mode='max', added to another input",
            {"w": (5, 6)},
        ),
        function(
            "embedding_bag",
            ((3,), integers(5, 3)),
            lambda m, x, i: F.embedding_bag(i, m.w, per_sample_weights=x, mode="sum"),
            "per_sample_weights the input",
            {"w": (5, 6)},
        ),
        though_affine=BAGS,
    ),
    function("one_hot", (VECTOR, integers(6)), lambda m, x, i: x * F.one_hot(i, 6), "times another input"),
)
