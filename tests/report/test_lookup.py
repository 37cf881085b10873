"""A lookup: its neighbors are the report's, and its audit finds what was planted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maxaffine._data import DataSet, Split
from maxaffine._report import Choices, Contents, as_json, find_subject, look_up, lookup_text, write
from maxaffine._report.audit import DRAWN, audit_rows
from maxaffine._report.facts import Neighborhoods
from maxaffine._report.lookup import Lookup
from maxaffine._report.page import render
from maxaffine.errors import BadInput
from tests.pages import check_page


@pytest.fixture(scope="module")
def planted(data: DataSet) -> DataSet:
    """Training input 7 is there once more at the end, under another label."""
    inputs = torch.cat([data.train.inputs, data.train.inputs[7:8]])
    labels = torch.cat([data.train.labels, (data.train.labels[7:8] + 1) % 3])
    return dataclasses.replace(data, train=Split(inputs, labels))


@pytest.fixture(scope="module")
def found(model: nn.Module, planted: DataSet) -> Lookup:
    return look_up(find_subject(model, planted, Choices(neighbors=4)), [5, 2], True)


def test_neighbors_are_those_of_the_report(model: nn.Module, data: DataSet, contents: Contents) -> None:
    assert isinstance(contents.neighbors, Neighborhoods)
    chosen = [query.index for query in contents.neighbors.queries]
    mine = look_up(find_subject(model, data, Choices(neighbors=4)), chosen, False)
    assert mine.audit is None
    for one, other in zip(mine.neighbors.queries, contents.neighbors.queries, strict=True):
        assert one.layers == other.layers
    assert mine.neighbors.shares == contents.neighbors.shares


def test_planted_pair_and_label_are_found(found: Lookup, planted: DataSet) -> None:
    assert found.audit is not None
    first = found.audit.pairs[0]
    names = [planted.class_names[int(planted.train.labels[i])] for i in (7, 60)]
    assert (first.first, first.second, first.labels) == (7, 60, tuple(names))
    assert first.distance == 0 and first.score == 1 and first.equal
    assert found.audit.inputs == 61 and found.audit.operators == ("2 (max_pool2d)", "5 (relu)")
    for suspect in found.audit.suspects:
        votes = [planted.class_names[int(planted.train.labels[i])] for i, _ in suspect.neighbors]
        assert votes == [label for _, label in suspect.neighbors] and suspect.score >= 0.9
        assert suspect.suggested != suspect.label


def test_numbers_of_limited_searches_are_those_of_the_training_set(model: nn.Module, planted: DataSet) -> None:
    few = look_up(find_subject(model, planted, Choices(train_limit=7)), None, True)
    assert few.audit is not None and few.audit.inputs == 7
    allowed = {0, 10, 20, 30, 40, 50, 60}
    assert {i for pair in few.audit.pairs for i in (pair.first, pair.second)} <= allowed
    assert {near.index for query in few.neighbors.queries for _, layer in query.layers for near in layer} <= allowed
    assert [query.index for query in few.neighbors.queries] == [0, 6, 12, 17, 23, 29]


def test_operators_are_chosen_by_name(model: nn.Module, data: DataSet) -> None:
    mine = look_up(find_subject(model, data, Choices(operators=("5",))), [0], False)
    assert [name for name, _ in mine.neighbors.queries[0].layers] == ["5 (relu)"]


def test_text(found: Lookup) -> None:
    text = lookup_text(found)
    near = found.neighbors.queries[0].layers[0][1][0]
    assert f"{'' if near.same else '≠'}{near.index} {near.label} {near.distance:.3f}" in text
    assert "test input 5, class" in text and "drawn at random" in text
    assert "near-duplicates among 61 training inputs" in text and "score 1.000  distance 0.0000" in text
    assert "label-error candidates" in text
    alone = lookup_text(dataclasses.replace(found, audit=None))
    assert "near-duplicates" not in alone and text.startswith(alone)


def test_files(found: Lookup, tmp_path: Path) -> None:
    write(found, tmp_path)
    numbers = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert numbers == json.loads(as_json(found)) and "exact" not in numbers
    assert numbers["audit"]["pairs"][0]["second"] == 60 and "pictures" not in numbers["audit"]
    assert found.audit is not None
    names = {"class-shares", "neighbors-00005", "neighbors-00002", *audit_rows(found.audit)}
    assert names >= {"near-duplicates"}
    written = {f"{name}.{kind}" for name in names for kind in ("png", "svg", "json")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == written
    for name in names:
        pixels = np.asarray(Image.open(tmp_path / "figures" / f"{name}.png"))
        assert pixels.std() > 0


def test_page_is_a_section_of_the_report(found: Lookup, contents: Contents) -> None:
    """The same section, so that a reader of the one knows the other."""
    page = check_page(render(found), ["same"])
    assert page.said("Which training inputs does it treat as the same?") and page.said("Near-duplicates and labels")
    for query in found.neighbors.queries:
        assert page.said(f"Test input {query.index}: class {query.label}")
    given = {"neighbors": found.neighbors, "audit": found.audit, "origin": found.origin}
    of_report = dataclasses.replace(contents, answers=(), hints=(), **given)
    # But for what is folded there: here nothing is, since this was asked for.
    whole = render(of_report).replace('<span class="step" aria-hidden="true">6</span>', "")
    shared = render(found).split('id="same-title">')[1].split("</section>")[0]
    assert shared.replace(" open>", ">") in whole.replace(" open>", ">") and shared not in whole
    alone = check_page(render(dataclasses.replace(found, audit=None)), ["same"])
    assert not alone.said("Near-duplicates")


def test_pictures_of_all_that_is_drawn(found: Lookup) -> None:
    assert found.audit is not None
    rows = audit_rows(found.audit)
    assert all(len(part) <= DRAWN for part in rows.values())
    drawn = {number for part in rows.values() for _, examples in part for number, _, _ in examples}
    assert drawn == set(found.audit.pictures)
    words, examples = rows["near-duplicates"][0]
    assert words.startswith("score 1.000") and [number for number, _, _ in examples] == [7, 60]
    assert [warning for _, _, warning in examples] == [False, True]


def test_nothing_suspicious_draws_nothing(found: Lookup) -> None:
    assert found.audit is not None
    assert audit_rows(dataclasses.replace(found.audit, pairs=(), suspects=())) == {}


def test_bad_input(model: nn.Module, data: DataSet) -> None:
    with pytest.raises(BadInput, match=r"no test input 30; they are numbered from 0 to 29"):
        look_up(find_subject(model, data, Choices()), [3, 30], False)
    with pytest.raises(BadInput, match=r"operators: \['typo'\] are not .* there are \['1', '2', '5'\]"):
        look_up(find_subject(model, data, Choices(operators=("typo",))), None, False)
    affine = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises(BadInput, match="no piecewise-affine operator"):
        look_up(find_subject(affine, data, Choices()), None, False)
    with pytest.raises(BadInput, match="k=1, but an input has 0 others"):
        look_up(find_subject(model, data, Choices(train_limit=1)), None, True)
