"""Reports on networks that give values or fields, and the place where an answer changes, against the module itself."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine import _report as report
from maxaffine._data import DataSet, Split
from maxaffine._report import Choices, Contents, LeftOut, assemble
from maxaffine._report.illustrations import illustrations
from maxaffine._report.page import render
from maxaffine._report.plane_page import plane_content
from maxaffine._report.sections import cut as cutting
from maxaffine._report.sections.cut import Cut, cut_of
from maxaffine._report.subject import Meaning, Subject, find_subject
from tests.arrays import decoded

SMALL = Choices(images=3, neighbors=3, cells=60, checked=4, checked_double=2, probes=5, memorized=10)
CLASS_WORDS = re.compile(r"(?i)\b(class|classes|decisions?|answer(s|ed)?|accuracy|runner-up|won|win|wins)\b")


def _rows(x: Tensor, labels: Tensor | None = None, names: tuple[str, ...] = ("unlabeled",)) -> DataSet:
    split = Split(x.float(), torch.zeros(len(x), dtype=torch.int64) if labels is None else labels)
    return DataSet("rows", split, split, names)


def _words(page: str) -> str:
    """What a reader reads."""
    bare = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    text = re.sub(r"<script.*?</script>|<[^>]+>", " ", bare, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(text))


def _network(inputs: int, outputs: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, outputs)).eval()


def _assembled(model: nn.Module, data: DataSet, **options: Any) -> Contents:
    return assemble(find_subject(model, data, dataclasses.replace(SMALL, **options)))


def _section(page: str, key: str) -> str:
    return _words(page.split(f'<section id="{key}"')[1].split("</section>")[0])


@pytest.mark.parametrize(
    ("inputs", "outputs", "labels", "task", "meaning"),
    [
        (5, 1, 30, None, Meaning.VALUE),  # whole numbers to be predicted are no classes
        (5, 3, 0, "values", Meaning.VALUES),
        (2, 1, 0, None, Meaning.FIELD),
    ],
)
def test_reports_on_values_speak_of_no_classes(
    inputs: int, outputs: int, labels: int, task: str | None, meaning: Meaning
) -> None:
    x = torch.randn(30, inputs, generator=torch.Generator().manual_seed(1))
    names = tuple(map(str, range(labels))) or ("unlabeled",)
    found = _assembled(_network(inputs, outputs), _rows(x, torch.arange(30) % max(1, labels), names), task=task)
    assert found.meaning is meaning and found.exact and found.accuracy is None
    page = render(found)
    for key in ("network", "why", "same", "space", "next"):
        assert not CLASS_WORDS.search(_section(page, key)), key
    kept = json.loads(report.as_json(found))
    for part in (kept, kept["origin"], kept["choices"], *kept["answers"], kept["cut"]):
        assert not {"accuracy", "class_names", "classes", "predicted", "runner_up", "areas"} & set(part)
    assert "accuracy" not in report.as_text(found) and f"outputs: {meaning.value}" in report.as_text(found)


def test_the_plane_of_a_value_against_the_module(contents: Contents) -> None:
    data = _rows(torch.randn(3, 4, generator=torch.Generator().manual_seed(3)))
    found = _cut(find_subject(_network(4, 2, seed=2), data, dataclasses.replace(SMALL, task="values")))
    assert found.areas == () and found.change is None
    double, partition = _network(4, 2, seed=2).double(), found.partition
    valued = dataclasses.replace(contents, answers=(), meaning=Meaning.VALUES, cut=found)
    (plane,) = [one for one in illustrations(valued) if one.name == "plane"]
    assert "answer" not in plane.numbers["regions"][0] and "boundary" not in plane.numbers
    assert len(plane.numbers["levels"]) == 2
    with torch.no_grad():
        for output, levels in enumerate(plane.numbers["levels"]):
            assert len(levels) > 1
            for level, segments in levels.items():
                t = torch.tensor(segments, dtype=torch.float64).flatten(0, 1)
                values = double(partition.frame.points(t)[0])[:, output]
                torch.testing.assert_close(values, torch.full_like(values, float(level)), atol=1e-4, rtol=0)
        corners = double(partition.frame.points(partition.vertices)[0])
        inside = double(partition.frame.points(partition.centers)[0])
    for output, reach in enumerate(found.values):
        assert reach.name == f"value {output}"
        ends = [float(corners[:, output].min()), float(corners[:, output].max())]
        assert [reach.low, reach.high] == pytest.approx(ends)
    for region, row in zip(plane.numbers["regions"], inside.tolist(), strict=True):
        assert region["values"] == pytest.approx(row)


def test_bands_lie_between_their_levels() -> None:
    model = _network(2, 1, seed=4).double()
    net = ma.capture(model, torch.zeros(2, 2, dtype=torch.float64))
    axes = torch.eye(2, dtype=torch.float64)
    plane = ma.partition.plane(net, origin=torch.zeros(1, 2, dtype=torch.float64), basis=axes, extent=2.0)
    found = plane.contours()
    values = model(found.bands.centers)[:, 0].detach().numpy()
    assert len(found.levels) > 2 and np.array_equal(np.searchsorted(found.levels, values), found.numbers)
    assert found.bands.areas.sum() == pytest.approx(16.0) and found.bands.operators[-1] == "level"
    for level, lines in zip(found.levels, found.lines, strict=True):
        alone = plane.level_set(level)
        assert lines.length == pytest.approx(alone.length) and lines.length > 0
    panels = report.plane_figure(plane).axes
    assert panels[0].get_title() == f"the value ({plane.regions} regions)"
    picture = plane_content(plane, str, 0)["data"]["picture"]
    drawn, bold = (decoded(picture[name]) for name in ("boundary", "surface"))
    assert len(drawn) == sum(map(len, found.lines)) and len(bold) == len(plane.level_set(0.0))
    with pytest.raises(ma.BadInput, match="not classes"):
        plane.plot(coloring="class")
    with pytest.raises(ma.BadInput, match="output: numbers run from 0 to 0"):
        plane.plot(output=1)


def test_a_value_that_is_the_same_everywhere_has_one_band() -> None:
    model = _network(2, 1)
    nn.init.zeros_(list(model.parameters())[-2])
    plane = ma.partition.plane(ma.capture(model, torch.zeros(2, 2)), origin=torch.zeros(1, 2), basis=torch.eye(2))
    found = plane.contours()
    assert found.low == found.high and found.levels == () and not found.numbers.any()
    assert "which is the same all over the plane" in report.plane_page(plane)


def test_a_field_is_drawn_over_its_coordinates() -> None:
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(5)) * torch.tensor([1.0, 2.0, 3.0])
    found = _cut(find_subject(_network(3, 1), _rows(x), SMALL), 2000)
    assert found.anchors == () and found.share == 1
    height = float(x[:, 2].median())
    assert found.height == pytest.approx(height)
    (points,) = found.partition.frame.points(found.partition.vertices)
    assert (points[:, 2] == height).all() and torch.equal(points[:, :2], found.partition.vertices)
    low, high = x[:, :2].double().amin(0), x[:, :2].double().amax(0)
    assert float(found.partition.areas.sum()) == pytest.approx(float((high - low).prod()))
    flat = cut_of(find_subject(_network(3, 1), _rows(torch.ones(20, 3)), SMALL), [0, 1, 2], SMALL)
    assert isinstance(flat, LeftOut) and "span no rectangle" in flat.reason


class _Strip(nn.Module):
    """Class 1 where x_axis lies within ``width`` of ``middle``; many units besides, which no output hears."""

    def __init__(self, axis: int, middle: float, width: float) -> None:
        super().__init__()
        self.axis, self.middle, self.width = axis, middle, width
        torch.manual_seed(0)
        self.others = nn.Linear(2, 60)

    def forward(self, x: Tensor) -> Tensor:
        away = x[:, self.axis : self.axis + 1] - self.middle
        lead = self.width - torch.relu(away) - torch.relu(-away)
        unheard = 0 * torch.relu(self.others(x)).sum(1, keepdim=True)
        return torch.cat([unheard, lead], 1)


def _subject(model: nn.Module) -> Subject:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.2, 1.0]])
    return find_subject(model.eval(), _rows(x, torch.tensor([0, 1, 0]), ("no", "yes")), SMALL)


def _cut(subject: Subject, cells: int = SMALL.cells) -> Cut:
    found = cut_of(subject, [0, 1, 2], dataclasses.replace(SMALL, cells=cells))
    assert isinstance(found, Cut)
    return found


def test_the_first_change_of_the_answer_is_found_however_narrow() -> None:
    """Of 33 samples none lies in the strip, so that no change was found, and a boundary promised that is not there."""
    subject = _subject(_Strip(0, 0.4, 1 / 2000))
    samples = torch.linspace(0, 1, 33)[:, None] * torch.tensor([[1.0, 0.0]])
    assert subject.model is not None and subject.model(samples).argmax(1).eq(0).all()
    found = _cut(subject)
    assert found.share < 1
    change = found.change
    assert change is not None and (change.start, change.end, change.first) == (1, 0, True)
    assert change.share == pytest.approx(0.6 - 1 / 2000, abs=1e-6)
    assert (change.before, change.after) == ("no", "yes")
    assert len(found.partition.decision_boundary()) > 0 and len(found.areas) == 2


def test_the_other_ways_are_searched_too() -> None:
    found = _cut(_subject(_Strip(1, 0.3, 1 / 1000)))
    assert found.change is not None and (found.change.start, found.change.end) == (0, 2)
    assert found.change.share == pytest.approx(0.3 - 1 / 1000, abs=1e-6)
    assert len(found.partition.decision_boundary()) > 0


def _page_of(contents: Contents, found: Cut) -> str:
    named = dataclasses.replace(contents.origin, class_names=("no", "yes"), input_shape=(2,))
    light = dataclasses.replace(contents, origin=named, cut=found, answers=(), hints=(), meaning=Meaning.CLASSES)
    left = LeftOut("left out")
    return _section(render(dataclasses.replace(light, memory=left, neighbors=left, audit=left)), "space")


def test_no_boundary_is_promised_where_there_is_none(contents: Contents) -> None:
    lone, strip = _cut(_subject(_Strip(0, 5.0, 1.0))), _cut(_subject(_Strip(0, 0.4, 1 / 2000)))
    assert lone.change is None and lone.followed == 1 and len(lone.partition.decision_boundary()) == 0
    said, promised = _page_of(contents, lone), _page_of(contents, strip)
    assert "the answer is the same all along the ways between the three inputs" in said
    assert "and so no decision boundary" in said and "exact decision boundary" not in said
    assert "the place where the answer changes first on the way from test input 1 to 0, from no to yes" in promised
    assert "the bold line between them is the exact decision boundary" in promised


def test_ways_too_long_to_be_followed_say_so(contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "MOST_PIECES", 1)
    monkeypatch.setattr(cutting, "FEWEST_PIECES", 1)
    monkeypatch.setattr(cutting, "line", partial(ma.partition.line, memory=1))
    wide = _cut(_subject(_Strip(0, 0.61, 0.1)))
    assert wide.followed < 1 and wide.change is not None
    assert wide.change == dataclasses.replace(wide.change, first=False, before="no", after="yes")
    assert wide.change.share == pytest.approx(0.29, abs=1e-6)
    assert len(wide.partition.decision_boundary()) > 0
    assert "a place where the answer changes on the way" in _page_of(contents, wide)
    missed = _cut(_subject(_Strip(0, 0.41, 1 / 2000)))
    assert missed.change is None and "no change of the answer was found" in _page_of(contents, missed)


def test_a_single_logit_answers_by_its_sign() -> None:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(3))
    model = _network(4, 1, seed=6)
    model[-1].bias.data -= model(x).median()
    subject = find_subject(model, _rows(x), dataclasses.replace(SMALL, task="classes"))
    said = (model(x)[:, 0] > 0).long()
    assert subject.meaning is Meaning.SIDE and said.any() and not said.all()
    assert torch.equal(subject.ask(x), said)
    assert [subject.answer_name(side) for side in (0, 1)] == ["at most 0", "above 0"]
    assert {name for name, _ in _cut(subject).areas} <= {"at most 0", "above 0"}
