"""What the page says, for every kind of network; an ordinary one is read as a whole in tests/test_cli.py."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maxaffine._data import DataSet, Split
from maxaffine._network import ExactnessReport
from maxaffine._report import Choices, Contents, as_json, as_text, assemble, find_subject
from maxaffine._report import page as pages
from maxaffine._report.audit import Audit
from maxaffine._report.facts import Check, LeftOut
from maxaffine._report.page import render
from maxaffine._templates import Memorization
from maxaffine.errors import MaxAffineError
from tests.pages import SECTIONS, VALUED, check_page


@pytest.fixture(scope="module")
def light(contents: Contents) -> Contents:
    """The same without its costliest parts."""
    left = LeftOut("left out")
    return dataclasses.replace(contents, memory=left, cut=left, audit=left, hints=())


@pytest.fixture(scope="module")
def text(contents: Contents) -> str:
    return render(contents)


def _wrong(contents: Contents) -> Contents:
    bad = ExactnessReport(0.5, math.inf, 0.0, 0.0, 1e-6, 64, torch.float32)
    return dataclasses.replace(contents, checks=(Check("float32", bad), Check("float64", None, "it <cannot>")))


def _data(shape: tuple[int, ...], classes: int) -> DataSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % max(1, classes)
    train, test = (Split(torch.rand(count, *shape, generator=generator), labels[:count]) for count in (40, 12))
    names = tuple(f"class {number}" for number in range(classes)) if classes else ("unlabeled",)
    return DataSet("random", train, test, names)


class Values(nn.Module):
    """A generator: (N, 6) to pictures (N, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[:, :, None, None])


SIGNAL = (nn.Conv1d(2, 4, 5), nn.ReLU(), nn.MaxPool1d(4), nn.Flatten(), nn.Linear(60, 3))
COLORS = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
TABLE = (nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 4))


@pytest.mark.parametrize(
    ("shape", "classes", "model", "values"),
    [
        pytest.param((2, 64), 3, nn.Sequential(*SIGNAL), False, id="signal"),
        pytest.param((7,), 4, nn.Sequential(*TABLE), False, id="tabular"),
        pytest.param((7,), 0, nn.Sequential(*TABLE), True, id="regressor"),
        pytest.param((6,), 0, Values(), True, id="generator"),
        pytest.param((3, 12, 12), 3, nn.Sequential(*COLORS), False, id="colors"),
    ],
)
def test_every_kind_of_network_has_a_page(shape: tuple[int, ...], classes: int, model: nn.Module, values: bool) -> None:
    choices = Choices(images=3, neighbors=3, cells=60, checked=4, checked_double=2, probes=5, memorized=10)
    contents = assemble(find_subject(model.eval(), _data(shape, classes), choices))
    page = check_page(render(contents), VALUED if values else SECTIONS)
    assert contents.exact and page.said("✓ Exact.") and isinstance(contents.memory, LeftOut) == values
    assert page.said("Colors are answers") == page.said("by the match and") != values
    assert page.said("how steeply the outputs change within the plane") == (values and len(contents.units) > 1)
    assert page.said("Colors are bands of the first value") == (values and len(contents.units) == 1)


def test_class_names_are_escaped(text: str) -> None:
    check_page(text)
    assert "$low$ &lt;b&gt;" in text
    assert "$low$ <b>" not in text


def test_an_inexact_network_is_called_so(light: Contents, text: str) -> None:
    page, exact = render(_wrong(light)), text
    assert "Not exact." in page and "✗ not exact" in page and "✓ Exact." not in page
    assert "Not checked in float64: it &lt;cannot&gt;." in page
    assert "✓ Exact." in exact and "Not exact." not in exact


def test_a_split_that_does_not_add_up_is_marked(light: Contents) -> None:
    one = light.answers[0]
    split = dataclasses.replace(one.splits[0], residual=0.25)
    broken = dataclasses.replace(one, splits=(split, *one.splits[1:]))
    page = render(dataclasses.replace(light, answers=(broken,)))
    assert "2.5e−01 ✗" in page and "Not exact." in page


def test_sections_that_are_left_out_say_why(contents: Contents) -> None:
    reasons = {name: LeftOut(f"no {name} <here>") for name in ("memory", "neighbors", "audit", "cut")}
    page = check_page(render(dataclasses.replace(contents, **reasons, accuracy=None, convex=True, hints=())))
    for name in ("memory", "neighbors", "cut"):
        assert page.said(f"no {name} <here>")
    assert page.said("does not apply") and page.said("provably convex")
    assert page.said("no number on this page calls for a next step")
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_page_says_the_numbers_of_its_records(contents: Contents, text: str) -> None:
    page = check_page(text)
    assert isinstance(contents.memory, Memorization) and isinstance(contents.audit, Audit)
    # Two epochs of so few inputs: the templates do not fit them yet.
    assert contents.memory.reason and page.said(f"How much is memorized cannot be told: {contents.memory.reason}.")
    assert f"memorization: cannot be told: {contents.memory.reason}" in as_text(contents)
    for one in contents.answers:
        up = one.runner_up
        assert up is not None
        parts = f"{up.inner:.3f} by the match and {up.offset:.3f} by the offsets"
        assert page.said(f"{up.winner} leads {up.loser} by {up.margin:.3f}: {parts}".replace("-", "−"))
        for name, _ in one.splits[0].contributions:
            assert page.said(contents.titles.get(name, name))
    assert not isinstance(contents.cut, LeftOut)
    assert page.said(f"{contents.cut.partition.regions:,} of them")
    for hint in contents.hints:
        assert page.said(hint.finding) and page.said(hint.advice)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and "href" in attributes]
    for kind in ("png", "svg", "json"):
        assert f"figures/plane.{kind}" in links and f"figures/templates-{contents.answers[0].index:05}.{kind}" in links


def test_too_large_a_page_has_smaller_pictures(light: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(size=(1, 448, 448))
    one = light.answers[0]
    large = dataclasses.replace(one, splits=tuple(dataclasses.replace(split, template=noise) for split in one.splits))
    changed = dataclasses.replace(light, answers=(large,))
    whole = len(render(changed).encode())
    monkeypatch.setattr(pages, "MOST_BYTES", whole - 1)
    assert len(render(changed).encode()) < whole
    monkeypatch.setattr(pages, "MOST_BYTES", 1000)
    with pytest.raises(MaxAffineError, match="larger than 10 MB"):
        render(changed)


def test_a_share_that_cannot_be_told_is_not(light: Contents, contents: Contents) -> None:
    assert isinstance(contents.memory, Memorization)
    away = dataclasses.replace(contents.memory.train, alignments=-contents.memory.train.alignments.abs())
    page = check_page(render(dataclasses.replace(light, memory=Memorization(away, away))))
    assert page.said("cannot be told: the templates do not fit the training inputs") and not page.said("nan")


def test_what_chance_explains_is_not_called_memorized(light: Contents, contents: Contents) -> None:
    assert isinstance(contents.memory, Memorization)
    fitting = dataclasses.replace(contents.memory.train, alignments=contents.memory.train.alignments + 0.5)
    alike = Memorization(fitting, fitting)
    page = check_page(render(dataclasses.replace(light, memory=alike)))
    assert page.said("none of the templates' fit") and page.said("no more than chance explains")
    assert not page.said("that much is memorized")


def test_test_inputs_that_may_be_known_are_called_so(contents: Contents) -> None:
    for doubtful in (True, False):
        changed = dataclasses.replace(contents, origin=dataclasses.replace(contents.origin, doubtful_test=doubtful))
        page = check_page(render(changed))
        assert page.said("was it trained on them?") == doubtful
        assert page.said("may have been trained on") == doubtful
        assert ("was it trained on them?" in as_text(changed)) == doubtful


def test_json_holds_no_pictures_and_is_strict(contents: Contents) -> None:
    text = as_json(_wrong(contents))
    found = json.loads(text, parse_constant=lambda name: math.nan)
    assert found["exact"] is False
    assert found["checks"][0]["report"]["affine"] == "inf"
    assert found["checks"][0]["report"]["dtype"] == "float32"
    assert "template" not in found["answers"][0]["splits"][0]
    assert found["neighbors"]["queries"][0]["layers"][0][1][0]["distance"] >= 0
    assert isinstance(contents.memory, Memorization)
    assert found["memory"]["score"] == "nan" and found["memory"]["reason"] == contents.memory.reason
    assert found["memory"]["train"]["alignment"] == pytest.approx(float(contents.memory.train.alignments.mean()))
    assert not isinstance(contents.cut, LeftOut)
    assert found["cut"]["partition"]["regions"] == contents.cut.partition.regions
    assert [hint["place"] for hint in found["hints"]] == [hint.place for hint in contents.hints]
    assert "Infinity" not in text and '"source"' not in text


def test_every_residual_has_its_column(contents: Contents) -> None:
    table = render(contents).split("Table of the residuals")[1].split("</table>")[0]
    rows = table.split("<tbody>")[1].split("</tr>")[:-1]
    assert rows and all(row.count("<td") == table.count("<th ") for row in rows)


def test_text_sums_up(contents: Contents) -> None:
    lines = as_text(_wrong(contents)).splitlines()
    # Nothing else counts until the checks hold.
    assert lines[0].startswith("NOT exact on 64 inputs") and lines[1] == "not checked in float64: it <cannot>"
    assert lines[2] == "a network: drawn at random"
    assert lines[3].startswith("test accuracy: ")
    assert lines[-2].startswith("memorization: cannot be told: ")
    assert lines[-1] == "operators: 7, 3 of them piecewise affine with 188 units"
