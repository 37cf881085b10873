"""The study of the code distance: its searches against loops, its changes, and its page against its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._data import DataSet, Split
from maxaffine._models import build
from studies.distance import grid, held_out, nearest
from studies.distance.__main__ import PAGE, RESULTS
from studies.distance.nearest import accuracy, search
from studies.distance.network import FEW
from studies.distance.pictures import CHANGES, changed, digits
from studies.distance.planted import KINDS
from studies.distance.tables import all_tables
from studies.distance.views import Views, distances
from studies.page import renewed


@pytest.fixture(scope="module")
def views() -> Views:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(338, 9), nn.ReLU()]
    return Views(nn.Sequential(*layers, nn.Linear(9, 3)).eval(), torch.zeros(2, 1, 28, 28))


def test_distances_are_those_of_the_modules_values(views: Views) -> None:
    a, b = torch.rand(3, 1, 28, 28), torch.rand(4, 1, 28, 28)
    found = dict(distances(views(a), views(b)))
    with torch.no_grad():
        first = [views.model[:2](x).flatten(1) for x in (a, b)]  # type: ignore[index]
    torch.testing.assert_close(found["l2|1"], torch.cdist(*first), rtol=1e-3, atol=1e-3)
    unequal = ((first[0] > 0)[:, None] != (first[1] > 0)[None]).double().mean(2)
    torch.testing.assert_close(found["code|1"], unequal)
    cosine = nn.functional.cosine_similarity(first[0][:, None], first[1][None], dim=2)
    torch.testing.assert_close(found["cosine|1"], 1 - cosine, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found["code|mean"], sum(found[f"code|{n}"] for n in ("1", "2", "5")) / 3)
    torch.testing.assert_close(found["pixels"], torch.cdist(a.flatten(1), b.flatten(1)), rtol=1e-3, atol=1e-3)


def test_search_in_parts_is_a_sort(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BATCH", 5)
    queries, searched = torch.rand(3, 1, 28, 28), torch.rand(20, 1, 28, 28)
    found = search(views, queries, searched, (10, 20), count=4)
    for mark in (10, 20):
        expected = dict(distances(views(queries), views(searched[:mark])))
        for name in ("code|5", "code|mean"):
            rounded = (expected[name] * 2**30).round()
            assert torch.equal(found[mark][name][1], rounded.argsort(dim=1, stable=True)[:, :4])


def test_votes() -> None:
    labels = torch.tensor([0, 1, 1, 2, 2])
    index = torch.tensor([[0, 1, 2], [0, 1, 3], [3, 1, 4]])
    assert accuracy(labels, index, torch.tensor([1, 0, 2]), 3) == 1
    assert accuracy(labels, index, torch.tensor([0, 1, 1]), 3) == 0
    assert accuracy(labels, index, torch.tensor([0, 0, 2]), 1) == 1


@pytest.mark.parametrize("kind", CHANGES)
def test_changes_grow(kind: str) -> None:
    images = digits("resized")[:50]
    far = [float((changed(images, kind, strength) - images).norm()) for strength in CHANGES[kind][1]]
    assert far == sorted(far) and far[0] > 0
    assert changed(images, kind, CHANGES[kind][1][0]).shape == images.shape


def test_a_translation_moves_by_pixels() -> None:
    images = torch.rand(2, 1, 28, 28)
    moved = changed(images, "translation", 3)
    assert torch.equal(moved[..., 3:], images[..., :-3]) and not moved[..., :3].any()


def test_digits_have_the_size_of_the_other_images() -> None:
    assert digits("padded").shape == digits("resized").shape == (1797, 1, 28, 28)
    assert not digits("padded")[..., :10, :].any()


def test_held_out_classes_are_gone() -> None:
    split = held_out._without(Split(torch.rand(20, 4), torch.arange(20) % 10))
    assert split.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7] * 2 and len(split.inputs) == 16


def test_the_page_shows_the_results() -> None:
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(Path(RESULTS).glob("*.json"))}
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text, all_tables(results)) == text
    assert all(f"| {kind} |" in text for kind in KINDS)


def test_the_grid_shows_the_nearest_in_code_distance() -> None:
    model = build("cnn", (1, 28, 28), 10, seed=0).eval()
    draw = torch.Generator().manual_seed(0)
    train, test = (Split(torch.rand(n, 1, 28, 28, generator=draw), torch.arange(n) % 10) for n in (30, 12))
    data = DataSet("random", train, test, tuple("abcdefghij"))
    found = grid._nearest(model, data, [3, 11])
    net = ma.capture(model, train.inputs[:2])
    codes, queries = net.codes(train.inputs), net.codes(test.inputs[[3, 11]])
    for name in grid.DEPTHS:
        order = ma.codes.code_distance(queries[name], codes[name]).sort(dim=1, stable=True).indices
        assert found[name] == order[:, : grid.NEAREST].tolist()


def test_the_grid_of_the_page_is_of_these_images() -> None:
    found = json.loads((RESULTS / "neighbors.json").read_text())
    assert len(found["queries"]) == len(grid.CLASSES) and found["before"] != found["after"]
    for when in ("before", "after"):
        assert set(found[when]) == set(grid.DEPTHS)
        assert all(len(set(row)) == grid.NEAREST and max(row) < FEW for rows in found[when].values() for row in rows)
