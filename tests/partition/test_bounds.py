"""Boxes that make no sense, asked of every function that takes one: one kind of words for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine.errors import BadInput

X = torch.full((1, 3), 0.4)
ASKED: dict[str, Callable[[ma.SplineNetwork, Any], Any]] = {
    "nearest_decision": lambda net, bounds: ma.partition.nearest_decision(net, X, bounds=bounds),
    "surface": lambda net, bounds: ma.partition.surface(net, 0.1, bounds=bounds),
    "regions": ma.partition.regions,
    "lipschitz": ma.partition.lipschitz,
    "region": lambda net, bounds: ma.partition.region(net, X, bounds=bounds),
}
BAD = [
    ("01", r"expected \(low, high\), got '01'"),
    ((0, 1, 2), r"expected \(low, high\)"),
    ({"low": 0, "high": 1}, r"expected \(low, high\)"),
    (np.zeros((2, 3)), r"expected \(low, high\)"),
    (("0", "1"), "expected numbers, got"),
    ((["0", 1, 1], 2), "expected numbers, got"),
    ((None, 1), "expected numbers, got"),
    ((False, True), "expected numbers, got"),
    (([[0], [1, 2]], 1), "expected numbers, got"),
    (([0, 0], 1), "expected one number or 3 for each end"),
    ((1, 0), "feature 0"),
    ((0, float("nan")), "feature 0"),
    ((0, [1, -1, 1]), "feature 1"),
]


@pytest.fixture(scope="module")
def net() -> ma.SplineNetwork:
    torch.manual_seed(0)
    return ma.capture(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)), torch.zeros(1, 3))


@pytest.mark.parametrize("function", ASKED)
def test_bad_boxes_are_named(net: ma.SplineNetwork, function: str) -> None:
    for bounds, message in BAD:
        with pytest.raises(BadInput, match=f"^bounds: .*{message}"):
            ASKED[function](net, bounds)


@pytest.mark.parametrize("function", [name for name in ASKED if name != "nearest_decision"])
def test_a_box_without_end_is_refused_where_all_of_it_is_asked_about(net: ma.SplineNetwork, function: str) -> None:
    with pytest.raises(BadInput, match="^bounds: every lower bound must be finite .* feature 2 are 0 and inf"):
        ASKED[function](net, (0, (1, 1, np.inf)))


def test_tensors_and_rows_are_boxes(net: ma.SplineNetwork) -> None:
    for low in (torch.zeros(3, requires_grad=True), np.zeros(3), [0, 0, 0], 0):
        assert len(ma.partition.regions(net, (low, torch.ones(3)))) == len(ma.partition.regions(net, (0, 1)))
