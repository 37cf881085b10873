"""Reports on tables: R2 and errors against scikit-learn's, features by name, targets beside neighbors."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine
from sklearn.metrics import r2_score, root_mean_squared_error
from torch import nn

import maxaffine as ma
from maxaffine import _report as report
from maxaffine._cli import main
from maxaffine._data import DataSet, Split, load
from maxaffine._models import standardized, train
from maxaffine._report import Choices, Contents, LeftOut, assemble
from maxaffine._report.features import SHOWN, features_of, slopes_in_words
from maxaffine._report.illustrations import illustrations
from maxaffine._report.page import render
from maxaffine._report.sections.fit import Fit, Measure, fit_hints
from maxaffine._report.subject import Meaning, find_subject
from tests.pages import VALUED, check_page
from tests.tables import targets_of, write_bunch

SMALL = Choices(images=6, neighbors=3, cells=60, checked=4, checked_double=2, probes=5, memorized=10)
WITH_FIT = [*VALUED[:3], "fit", *VALUED[3:]]


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bunch(tmp_path_factory.mktemp("tables") / "diabetes.csv", load_diabetes(scaled=False))


@pytest.fixture(scope="module")
def values(diabetes: Path) -> tuple[nn.Module, DataSet, Contents]:
    data = load(diabetes, target="target,bmi")
    model = standardized("mlp", data.train, 2, seed=0)
    train(model, data.train, epochs=15)
    return model, data, assemble(find_subject(model, data, SMALL, "mlp", fresh=True))


def _words(page: str) -> str:
    bare = re.sub(r"<(style|svg|script).*?</\1>|<[^>]+>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(bare))


def test_r2_and_errors_against_scikit_learn(values: tuple[nn.Module, DataSet, Contents]) -> None:
    model, data, found = values
    assert isinstance(found.fit, Fit) and found.meaning is Meaning.VALUES and found.exact
    names = [(name, part) for name in ("target", "bmi") for part in ("training", "test")]
    assert [(one.name, one.part) for one in found.fit.measures] == names
    for one in found.fit.measures:
        split, unit = data.train if one.part == "training" else data.test, data.target_names.index(one.name)
        wanted, got = targets_of(split)[:, unit].numpy(), model(split.inputs)[:, unit].detach().numpy()
        assert one.r2 == pytest.approx(r2_score(wanted, got), abs=1e-5) and one.inputs == len(wanted)
        assert one.rmse == pytest.approx(root_mean_squared_error(wanted, got), rel=1e-5)
        assert one.deviation == pytest.approx(wanted.std(), rel=1e-5)


def test_the_uncertainty_of_r2_is_how_far_other_draws_of_the_inputs_take_it(
    values: tuple[nn.Module, DataSet, Contents],
) -> None:
    fit = values[2].fit
    assert isinstance(fit, Fit)
    residuals, spread = fit.values["test"] - fit.targets["test"], fit.targets["test"].var(0)
    draws = np.random.default_rng(0).integers(len(residuals), size=(2000, len(residuals)))
    expected = ((residuals**2)[draws].mean(1) / spread).std(0)
    np.testing.assert_allclose([one.uncertainty for one in fit.tests], expected, rtol=0.1)


@pytest.mark.parametrize(
    ("train_r2", "test_r2", "uncertainty", "asks"),
    [
        (0.95, 0.6, 0.05, "0.60 ± 0.05 on test inputs, and 0.95 on those that it was trained on"),
        (0.95, 0.6, 0.3, ""),
        (0.65, 0.6, 0.001, ""),
        (0.02, 0.01, 0.01, "hardly better than always giving the mean"),
        (0.02, 0.01, 0.2, ""),
        (float("nan"), 0.01, 0.01, ""),
    ],
)
def test_what_may_be_chance_asks_for_nothing(train_r2: float, test_r2: float, uncertainty: float, asks: str) -> None:
    trained = Measure("y", "training", 90, train_r2, 1.0, 2.0, 0.0)
    tested = Measure("y", "test", 9, test_r2, 1.0, 2.0, uncertainty)
    hints = list(fit_hints(Fit(("y",), (trained, tested), {}, {}, {}, (), 1.0)))
    assert len(hints) == bool(asks) and all(asks in hint.finding for hint in hints)


def test_the_worst_inputs_are_explained_last(values: tuple[nn.Module, DataSet, Contents]) -> None:
    model, data, found = values
    assert isinstance(found.fit, Fit)
    errors = (model(data.test.inputs).detach() - targets_of(data.test)) / targets_of(data.train).std(0, correction=0)
    order = errors.square().sum(1).argsort(descending=True).tolist()
    shown = [answer.index for answer in found.answers]
    assert list(found.fit.worst) == order[:2] == shown[-2:] and shown[0] == 0 and len(set(shown)) == 6
    assert {i: tuple(targets_of(data.test)[i].tolist()) for i in shown} == found.fit.explained


def test_features_add_up_to_the_match(values: tuple[nn.Module, DataSet, Contents]) -> None:
    _, data, found = values
    answer = found.answers[0]
    rows = features_of(answer, data.feature_names)
    for place, split in enumerate(answer.splits):
        assert sum(row.shares[place] for row in rows) == pytest.approx(split.inner, rel=1e-5)
        for row in rows:
            i = data.feature_names.index(row.name)
            assert row.weights[place] == split.template[i] and row.value == float(data.test.inputs[answer.index, i])
    (first, _) = slopes_in_words(answer, rows)
    assert re.fullmatch(r"target (rises|falls) by [\d.,]+ per unit of \w+(, (rises|falls) by .*){2}\.", first)
    wide = dataclasses.replace(answer.splits[0], template=np.arange(30.0))
    many = dataclasses.replace(answer, input=np.ones(30), splits=(wide,))
    rows = features_of(many, [f"x{i}" for i in range(30)])
    assert len(rows) == SHOWN + 1 and rows[0].name == "x29" and rows[-1].name == "18 others"
    assert rows[-1].shares == (sum(range(18)),) and rows[-1].weights == (None,) and rows[-1].value is None


def test_the_page_speaks_of_features_and_targets(values: tuple[nn.Module, DataSet, Contents]) -> None:
    _, data, found = values
    page = render(found)
    assert check_page(page, WITH_FIT).said("How well does it predict?")
    words = _words(page)
    assert "to predict target, bmi" in words and "Features age, sex, bp, s1" in words
    assert "per unit of" in words and "target rises" in words or "target falls" in words
    near = found.neighbors
    assert not isinstance(near, LeftOut)
    one = near.queries[0].layers[0][1][0]
    target, bmi = targets_of(data.train)[one.index].tolist()
    assert one.label == f"target {target:.3g}, bmi {bmi:.3g}" and f"{one.label} 0." in words
    picture = (data.train.inputs[one.index] - data.train.inputs.mean(0)) / data.train.inputs.std(0, correction=0)
    np.testing.assert_allclose(near.inputs[one.index], picture.numpy(), atol=1e-4)
    assert '"features":["age","sex","bp"' in page
    kept = json.loads(report.as_json(found))
    assert len(kept["fit"]["measures"]) == 4 and kept["origin"]["target_names"] == ["target", "bmi"]
    assert "target: R2 0." in report.as_text(found) and "bmi: R2" in report.as_text(found)
    names = [one.name for one in illustrations(found)]
    assert "predicted" in names
    (figure,) = [one for one in illustrations(found) if one.name == "predicted"]
    assert [ax.get_title(loc="left") for ax in figure.draw().axes] == ["target", "bmi"]
    assert len(figure.numbers["test"]["targets"]) == len(data.test)


def test_classes_of_a_table_by_name(tmp_path: Path) -> None:
    write_bunch(tmp_path / "wine.csv", load_wine(), lambda number: ("red", "white", "pink")[number])
    words = ["report", "mlp", str(tmp_path / "wine.csv"), "-o", str(tmp_path / "page"), "--images", "2", "--json"]
    assert main(words) == 0
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert check_page(page).said("red leads ") and "alcohol" in _words(page)
    found = json.loads((tmp_path / "page" / "results.json").read_text(encoding="utf-8"))
    assert found["origin"]["class_names"] == ["pink", "red", "white"] and found["accuracy"]["share"] > 0.9
    assert "fit" not in found and "target_names" not in found["origin"]


def test_weights_of_train_are_those_of_a_report(
    diabetes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.safetensors"
    words = ["mlp", str(diabetes), "--target", "target"]
    assert main(["train", *words, "--epochs", "3", "-o", str(weights), "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["history"][0]["r2"] == pytest.approx(1 - trained["history"][0]["loss"], abs=1e-6)
    out = ["--state-dict", str(weights), "-o", str(tmp_path / "page"), "--images", "1", "--json"]
    assert main(["report", *words, *out]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fit"]["measures"][1]["r2"] == pytest.approx(trained["test_r2"], abs=1e-5)
    assert found["origin"]["doubtful_test"] and found["meaning"] == Meaning.VALUE.value
    assert main(["train", *words[:2], "--target", "bmy"]) == 1
    assert "no column 'bmy'; did you mean 'bmi'" in capsys.readouterr().err
    (tmp_path / "gap.csv").write_text("a,b\n1,2.5\n,3.5\n")
    assert main(["report", "mlp", str(tmp_path / "gap.csv")]) == 1
    said = capsys.readouterr().err
    assert "gap.csv: line 3, column 'a': has a missing value" in said and "here: --drop COLUMN,COLUMN" in said


def test_arrays_with_targets_and_networks_that_do_not_fit(tmp_path: Path) -> None:
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    found = ma.report(model, (x, x.sum(1)), tmp_path / "page", images=2).contents
    assert isinstance(found.fit, Fit) and found.fit.names == ("the value",) and found.meaning is Meaning.VALUE
    check_page((tmp_path / "page" / "report.html").read_text(encoding="utf-8"), WITH_FIT)
    split = Split(x, torch.zeros(40, dtype=torch.int64), x[:, :3].contiguous())
    data = DataSet("rows", split, split, ("unlabeled",))
    other = assemble(find_subject(model, data, dataclasses.replace(SMALL, images=1)))
    assert isinstance(other.fit, LeftOut) and "gives 1 numbers and the data has 3 targets" in other.fit.reason
    check_page(render(other), WITH_FIT)


def test_whole_numbers_beside_a_single_value_are_targets() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    split = Split(x, torch.arange(30) % 3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    subject = find_subject(model, DataSet("rows", split, split, ("3", "5", "9")), SMALL)
    assert targets_of(subject.data.train)[:4, 0].tolist() == [3.0, 5.0, 9.0, 3.0]
    named = find_subject(model, DataSet("rows", split, split, ("a", "b", "c")), SMALL)
    assert named.data.train.targets is None


def test_a_constant_target_of_the_test_part_has_no_r2() -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    part, flat = (Split(x, torch.zeros(30, dtype=torch.int64), y[:, None]) for y in (x[:, 0], torch.ones(30)))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    found = assemble(find_subject(model, DataSet("rows", part, flat, ("unlabeled",)), SMALL))
    assert isinstance(found.fit, Fit) and np.isnan(found.fit.tests[0].r2)
    assert "nan" in report.as_json(found) and check_page(render(found), WITH_FIT)
