"""Rows of a table in the explorer: features by name, targets beside inputs, bars in one scale."""

from __future__ import annotations

import torch
from torch import nn

from maxaffine._data import DataSet, Split
from maxaffine._drawing import input_pixels, png_of
from maxaffine._explore import Explorer
from maxaffine._report import Choices, find_subject


def test_rows_have_names_and_targets() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1e4, 1.0])
    part = Split(x, torch.zeros(20, dtype=torch.int64), torch.arange(20.0)[:, None])
    names = {"feature_names": ("rooms", "area", "age"), "target_names": ("price",)}
    data = DataSet("houses", part, part, ("unlabeled",), **names)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).eval()
    found = Explorer({"as it is": find_subject(model, data, Choices())})
    about = found.about()
    assert about["features"] == ["rooms", "area", "age"] and about["outputs"] == ["price"] and about["labels"] == []
    assert [one["name"] for one in found.images("test", None, 3, 2)["images"]] == [
        "test 3, target 3",
        "test 4, target 4",
    ]
    # The area would be the only bar to be seen.
    standard = (x[3].double() - x.double().mean(0)) / x.double().std(0, correction=0)
    assert found.shelf.thumbnail("test/3") == png_of(input_pixels(standard.numpy()), 96)
    while not (near := found.neighbors("test/3", 0)).get("rows"):
        assert near["state"] != "failed"
    # The part is both, and nearest in the inputs is the input itself, with its target.
    assert near["rows"][0]["near"][0]["image"] == "train/3"
    assert [one["targets"] for one in near["rows"][0]["near"]][0] == "3"
    found.close()
