"""Codes of a network: batches, loaders, chosen operators."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import maxaffine as ma
from tests.zoo.networks import Net, mlp

X = torch.randn(10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.arange(10)


@cache
def captured() -> ma.SplineNetwork:
    torch.manual_seed(0)
    return ma.capture(mlp(nn.ReLU).double().eval(), X[:1])


@cache
def two_inputs() -> ma.SplineNetwork:
    return ma.capture(Net(lambda m, x, y: (x - y).abs() + x.clamp(-1, 1)), {"x": X, "y": X})


def test_codes_are_the_pieces_that_won() -> None:
    module = mlp(nn.ReLU).double().eval()
    codes = ma.capture(module, X[:1]).codes(X)
    hidden = module[0](X)
    assert torch.equal(codes["1"].unpack().bool(), hidden > 0)
    assert torch.equal(codes["3"].unpack().bool(), module[2](hidden.relu()) > 0)


@pytest.mark.parametrize(
    "batches",
    [
        lambda: X.split(3),
        lambda: DataLoader(TensorDataset(X), batch_size=4),
        lambda: DataLoader(TensorDataset(X, Y), batch_size=4),
        lambda: zip(X.split(3), Y.split(3), strict=True),
        lambda: ([part, labels] for part, labels in zip(X.split(1), Y.split(1), strict=True)),
        lambda: iter([X]),
    ],
    ids=["list", "loader", "labeled_loader", "pairs", "lists", "iterator"],
)
def test_a_loader_gives_the_codes_of_all_its_batches(batches: Any) -> None:
    given = batches()
    given = given if not isinstance(given, tuple) else iter(given)
    assert captured().codes(given, progress=False) == captured().codes(X)


def test_loaders_of_several_inputs() -> None:
    net, whole = two_inputs(), two_inputs().codes({"x": X, "y": -X})
    parts: Iterator[dict[str, Tensor]] = ({"x": x, "y": -x} for x in X.split(4))
    assert net.codes(parts) == whole
    pair = ma.capture(Net(lambda m, x, y: (x - y).abs()), (X, X))
    expected = pair.codes((X, -X))
    assert pair.codes(zip(X.split(4), (-X).split(4), strict=True)) == expected
    assert pair.codes(zip(X.split(4), (-X).split(4), Y.split(4), strict=True)) == expected


def test_a_progress_bar_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    captured().codes(iter(X.split(5)), progress=True)
    assert "codes" in capsys.readouterr().err
    captured().codes(iter(X.split(5)), progress=False)
    captured().codes(iter(X.split(5)))
    assert capsys.readouterr().err == ""


def test_chosen_operators() -> None:
    whole = captured().codes(X)
    for names in (["3"], "3"):
        assert dict(captured().codes(X, operators=names)) == {"3": whole["3"]}
    assert list(captured().codes(X, operators=["3", "1"])) == ["1", "3"]
    assert list(captured().codes(iter(X.split(4)), operators=["1"])) == ["1"]


@pytest.mark.parametrize("names", [["nope"], ["0"], ["1", "4"], "13"])
def test_unknown_operators_are_refused(names: Any) -> None:
    with pytest.raises(
        ma.BadInput, match=r"operators: .* are not piecewise-affine operators here; there are \['1', '3'\]"
    ):
        captured().codes(X, operators=names)


def test_a_network_without_pieces_has_no_codes() -> None:
    codes = ma.capture(nn.Linear(6, 2).double(), X[:1]).codes(X)
    assert len(codes) == 0 and codes.batch == 10
    assert codes.region_ids().tolist() == [0] * 10


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (iter([]), "x: the loader gave no batch"),
        (3, "x: expected inputs or a loader of batches, got int"),
        (iter([3]), "x: expected a torch.Tensor, got int"),
        (iter([X, X[:, :5]]), r"x: shape \(10, 5\)"),
        (iter([(X, Y, Y)]), "takes 1 inputs"),
        (X[:0], "the batch is empty"),
        (X * torch.nan, "NaN or infinity"),
    ],
)
def test_bad_batches_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ma.BadInput, match=words):
        captured().codes(given)


def test_codes_jump_with_their_unit_only() -> None:
    """Across one kink one code changes, and with it the map; every other input keeps both."""
    net = captured()
    first = net.affine_map(X, until="0")
    crossing = X.clone()
    slopes: Any = first.slopes
    direction = slopes[4, 2]
    distance = first.value[4, 2] / direction.dot(direction)
    crossing[4] = X[4] - distance * direction * (1 + 1e-9)
    here, there = net.codes(X), net.codes(crossing)
    changed = (here["1"].unpack() != there["1"].unpack()).nonzero().tolist()
    assert [4, 2] in changed and all(sample == 4 for sample, _ in changed)
    assert here.same_region(there).tolist() == [sample != 4 for sample in range(10)]
