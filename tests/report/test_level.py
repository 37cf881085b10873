"""The surface that a report on three inputs shows: of which output, level and box, and when there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._report import Choices, LeftOut, find_subject
from maxaffine._report.sections import level as levels
from maxaffine._report.sections.level import LevelSet, level_set_of
from tests.report.test_values import _network, _rows, _section


def _corners(*shape: int) -> Tensor:
    return 2 * torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)) - 1


def _level_set(
    model: nn.Module, x: Tensor, task: str | None = None, labels: Tensor | None = None
) -> LevelSet | LeftOut | None:
    names = ("unlabeled",) if labels is None else tuple(f"class {k}" for k in range(int(labels.max()) + 1))
    return level_set_of(find_subject(model, _rows(x, labels, names), Choices(task=task)))


class Shifted(nn.Module):
    """A network of values that may be nowhere zero."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.inner, self.shift = _network(3, 1).requires_grad_(False), shift

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(1)) + self.shift


def test_values_are_shown_at_zero_or_else_where_they_are_in_the_middle() -> None:
    x, middle = _corners(3), float(Shifted(0.0)(_corners(3)).median())
    found = _level_set(Shifted(-middle), x, "value")
    assert isinstance(found, LevelSet) and found.surface.level == 0 and "takes here" in found.reason
    lifted = Shifted(9.0)
    found = _level_set(lifted, x, "value")
    assert isinstance(found, LevelSet) and "median" in found.reason
    assert found.surface.level == pytest.approx(float(lifted(x).median()), rel=1e-6)
    assert found.error is not None and found.error < 1e-6
    assert found.low == pytest.approx(x.amin(0).tolist()) and found.high == pytest.approx(x.amax(0).tolist())


def test_with_targets_it_is_their_mean(tmp_path: Path) -> None:
    x, model = _corners(3), Shifted(9.0)
    y = model(x).detach()[:, 0]
    found = ma.report(model, (x, y), tmp_path / "report", images=2)
    shown = found.contents.level_set
    assert isinstance(shown, LevelSet) and "mean of its training targets" in shown.reason
    kept = json.loads(found.results.read_text(encoding="utf-8"))["level_set"]
    assert kept["surface"]["faces"] == len(shown.surface) and kept["surface"]["level"] == shown.surface.level
    page = found.page.read_text(encoding="utf-8")
    assert f"{len(shown.surface)} polygons" in _section(page, "surface") and page.count('<div class="solid">') == 1
    numbers = json.loads((found.figures / "level-set.json").read_text(encoding="utf-8"))
    assert len(numbers["faces"]) == len(shown.surface) and len(numbers["vertices"]) == len(shown.surface.vertices)


@pytest.mark.parametrize("classes", [2, 3])
def test_of_classes_it_is_the_border_of_the_most_frequent_answer(classes: int) -> None:
    x, model = _corners(3), _network(3, classes, seed=3)
    answers = model(x).argmax(1)
    found = _level_set(model, x, labels=torch.arange(40) % classes)
    assert isinstance(found, LevelSet) and found.reason == ""
    if classes == 2:
        assert (found.surface.output, found.surface.against) == (1, 0)
        assert (found.name, found.rival) == ("class 1", "class 0")
    else:
        most = int(answers.bincount(minlength=3).argmax())
        assert (found.surface.output, found.surface.against, found.rival) == (most, "others", "")
    # Beside the surface the untouched module answers differently.
    step = 1e-3 * torch.from_numpy(found.surface.normals)
    sides = [model((torch.from_numpy(found.surface.centers) + sign * step).float()).argmax(1) for sign in (1, -1)]
    assert (sides[0] == found.surface.output).float().mean() > 0.9
    assert (sides[1] != found.surface.output).float().mean() > 0.9


def test_a_single_output_decides_at_zero() -> None:
    x = _corners(3)
    found = _level_set(Shifted(-float(Shifted(0.0)(x).median())), x, "classes", torch.arange(40) % 2)
    assert isinstance(found, LevelSet) and found.surface.level == 0
    assert (found.rival, found.name) == ("class 0", "class 1")


def test_too_many_polygons_make_a_smaller_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "FEWEST", 12)
    monkeypatch.setattr(levels, "WORK", 1.0)
    x, model = _corners(3), _network(3, 2, seed=3)
    found = _level_set(model, x, labels=torch.arange(40) % 2)
    assert isinstance(found, LevelSet) and found.share < 1 and found.surface.complete and len(found.surface) <= 12
    monkeypatch.setattr(levels, "TRIES", 1)
    found = _level_set(model, x, labels=torch.arange(40) % 2)
    assert isinstance(found, LeftOut) and "more than 12 polygons" in found.reason


def test_other_networks_have_none_and_a_reason_is_given_where_it_is_missing() -> None:
    assert _level_set(_network(5, 1), _corners(5), "value") is None
    flat = _corners(3)
    flat[:, 1] = 0.5
    found = _level_set(_network(3, 1), flat, "value")
    assert isinstance(found, LeftOut) and "span no box" in found.reason
    last = nn.Linear(4, 2)
    nn.init.zeros_(last.weight)
    constant = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), last)
    found = _level_set(constant, _corners(3), labels=torch.arange(40) % 2)
    assert isinstance(found, LeftOut) and "no surface to show" in found.reason
