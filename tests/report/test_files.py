"""A report appears as a whole or not at all."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maxaffine._data import DataSet
from maxaffine._report import PAGE, Contents, files, files_of, page_of, staged, staged_page, write
from maxaffine._report.audit import Audit, audit_rows
from maxaffine._report.page import GENERATOR
from maxaffine.errors import BadInput, MaxAffineError

KINDS = ("png", "svg", "json")


@pytest.fixture(scope="module")
def page(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("written") / "deep" / "page.html"
    with staged_page(page) as staging:
        assert not page.exists()
        write(contents, staging)
    return page


def test_everything_is_written(contents: Contents, page: Path) -> None:
    assert {path.name for path in page.parent.iterdir()} == {"page.html", "page_files"}
    names = ["operators", "memorization", "class-shares", "plane"]
    for one in contents.answers:
        names += [f"{kind}-{one.index:05}" for kind in ("templates", "offsets", "neighbors")]
    assert isinstance(contents.audit, Audit)
    names += list(audit_rows(contents.audit))
    expected = {"results.json", files.LIST, *(f"{name}.{kind}" for name in names for kind in KINDS)}
    assert {path.name for path in files_of(page).iterdir()} == expected
    for name in names:
        drawing, vectors, numbers = (files_of(page) / f"{name}.{kind}" for kind in KINDS)
        assert np.asarray(Image.open(drawing)).std() > 0
        assert ElementTree.parse(vectors).getroot().tag.endswith("svg")
        assert json.loads(numbers.read_text(encoding="utf-8"))
    assert json.loads((files_of(page) / "results.json").read_text(encoding="utf-8"))["exact"] is True
    assert [path.name for path in page.parent.parent.iterdir()] == ["deep"]


def test_numbers_of_the_figures_are_the_networks(
    contents: Contents, model: nn.Sequential, data: DataSet, page: Path
) -> None:
    def numbers(name: str) -> Any:
        return json.loads((files_of(page) / f"{name}.json").read_text(encoding="utf-8"))

    one = contents.answers[0]
    x = data.test.inputs[one.index]
    shown = numbers(f"templates-{one.index:05}")
    np.testing.assert_allclose(shown["input"], x.numpy(), rtol=1e-5)
    leaf = x.clone().requires_grad_()
    for split in shown["splits"]:
        (slopes,) = torch.autograd.grad(model(leaf[None])[0, split["unit"]], leaf)
        np.testing.assert_allclose(split["template"], slopes.sum(0).numpy(), atol=1e-5)
        assert split["value"] == pytest.approx(float(model(x[None])[0, split["unit"]]))
        parts = numbers(f"offsets-{one.index:05}")[split["name"]]
        whole = parts.pop("offset")
        assert sum(parts.values()) == pytest.approx(whole, abs=1e-6)
        assert whole == pytest.approx(float(model(x[None])[0, split["unit"]]) - float((slopes * x).sum()), abs=1e-5)
    plane = numbers("plane")
    corners = [np.array(region["corners"]) for region in plane["regions"]]
    area = sum(_area(ring) for ring in corners)
    assert area == pytest.approx(plane["partition"]["area"], rel=1e-4)
    anchors = data.test.inputs[plane["anchors"]].double().flatten(1)
    towards = (anchors[1] - anchors[0]) / (anchors[1] - anchors[0]).norm()
    away = anchors[2] - anchors[0]
    across = away - (away @ towards) * towards
    axes = torch.stack([towards, across / across.norm()])
    for region, ring in list(zip(plane["regions"], corners, strict=True))[::9]:
        point = anchors[0] + torch.from_numpy(ring.mean(0)) @ axes
        answer = copy.deepcopy(model).double()(point.view(1, 1, 6, 6)).argmax()
        assert region["answer"] == data.class_names[int(answer)]
    listed = numbers("memorization")
    cosines = torch.tensor(listed["inputs"]["test"]["own"], dtype=torch.float64)
    leaf = data.test.inputs.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(model(leaf).gather(1, data.test.labels[:, None]).sum(), leaf)
    own = torch.cosine_similarity(slopes.flatten(1), data.test.inputs.flatten(1)).double()
    torch.testing.assert_close(cosines, own, atol=1e-5, rtol=1e-4)


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, MaxAffineError])
@pytest.mark.parametrize("earlier", [True, False])
def test_failures_leave_the_page_that_was_there(tmp_path: Path, failure: type[BaseException], earlier: bool) -> None:
    page = tmp_path / "new" / "page.html"
    if earlier:
        with staged_page(page) as staging:
            _write(staging, "earlier")
    with pytest.raises(failure), staged_page(page) as staging:
        _write(staging, "half")
        raise failure
    left = {path.name for path in tmp_path.rglob("*")}
    assert left == ({"new", "page.html", "page_files", "plane.png", files.LIST} if earlier else set())
    assert not earlier or _read(page) == ("earlier", "earlier")


def test_an_earlier_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for text in ("first", "second"):
        with staged_page(page) as staging:
            _write(staging, text)
    assert _read(page) == ("second", "second")
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "page_files"}


@pytest.mark.parametrize("place", ["page.html", "page_files"])
def test_a_failed_exchange_puts_the_earlier_page_back(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    with staged_page(page) as staging:
        _write(staging, "earlier")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.parent.suffix == ".part" and self.name == place and target.parent == tmp_path:
            monkeypatch.setattr(Path, "rename", rename)
            raise OSError("no space")
        return rename(self, target)

    with pytest.raises(MaxAffineError, match="no space"), staged_page(page) as staging:
        _write(staging, "new")
        monkeypatch.setattr(Path, "rename", fail)
    assert _read(page) == ("earlier", "earlier")
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "page_files"}


def test_nothing_but_a_page_of_ours_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("<title>mine</title>")
    with staged_page(tmp_path / "page.html") as staging:
        _write(staging, "earlier")
    (tmp_path / "page_files" / "notes.txt").touch()
    # What a report writes has such names, too.
    (tmp_path / "pictures_files").mkdir()
    (tmp_path / "pictures_files" / "plane.png").touch()
    (tmp_path / "other_files").touch()
    (tmp_path / "folder.html").mkdir()
    for name, words in {
        "mine": "is not a report",
        "page": "holds 'notes.txt'",
        "pictures": "holds 'plane.png', which no report put there and which would be lost; name another page",
        "other": "is a file",
        "folder": "is a folder",
    }.items():
        with pytest.raises(BadInput, match=words), staged_page(tmp_path / f"{name}.html"):
            pytest.fail("the block must not run")
    with pytest.raises(MaxAffineError, match="out: .* cannot be written"):
        with staged_page(tmp_path / "mine.html" / "page.html"):
            pytest.fail("the block must not run")


def test_a_folder_gets_a_page() -> None:
    assert page_of(Path("a/b.html")) == Path("a/b.html") and page_of(Path("B.HTM")) == Path("B.HTM")
    assert page_of(Path("report")) == Path("report/report.html")
    assert files_of(Path("a/b.html")) == Path("a/b_files")


def _write(page: Path, text: str) -> None:
    page.write_text(f'<meta name="generator" content="{GENERATOR}">{text}')
    (files_of(page) / "plane.png").write_text(text)


def _read(page: Path) -> tuple[str, str]:
    return page.read_text().rpartition(">")[2], (files_of(page) / "plane.png").read_text()


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, MaxAffineError])
@pytest.mark.parametrize("earlier", [True, False])
def test_failures_leave_what_was_there(tmp_path: Path, failure: type[BaseException], earlier: bool) -> None:
    out = tmp_path / "report"
    if earlier:
        _earlier(out)
    with pytest.raises(failure), staged(out) as folder:
        (folder / PAGE).write_text("half")
        raise failure
    assert {path.name for path in tmp_path.rglob("*")} == ({"report", PAGE, files.LIST} if earlier else set())
    assert not earlier or (out / PAGE).read_text() == "earlier"


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "report"
    for text in ("first", "second"):
        with staged(out) as folder:
            (folder / PAGE).write_text(text)
            (folder / f"{files.RESULTS if text == 'first' else files.WEIGHTS}").touch()
    assert {path.name for path in out.iterdir()} == {PAGE, files.WEIGHTS, files.LIST}
    assert (out / PAGE).read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_failed_exchange_puts_the_earlier_report_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    _earlier(out)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(MaxAffineError, match="cannot be written .*no space"), staged(out) as folder:
        (folder / PAGE).write_text("new")
    assert {path.name for path in tmp_path.rglob("*")} == {"report", PAGE, files.LIST}
    assert (out / PAGE).read_text() == "earlier"


@pytest.mark.parametrize("name", ["notes.txt", "weights.safetensors", "figures/plane.png", "results.json"])
@pytest.mark.parametrize("earlier", [True, False])
def test_nothing_but_a_report_is_replaced(tmp_path: Path, name: str, earlier: bool) -> None:
    """Whatever its name is: weights of one's own, and folders of figures, have the names that a report uses."""
    out = tmp_path / "out"
    if earlier:
        _earlier(out)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("mine")
    with pytest.raises(BadInput, match=f"holds '{name}', which no report put there"), staged(out):
        pytest.fail("the block must not run")
    with pytest.raises(BadInput, match="is a file"), staged(out / name):
        pytest.fail("the block must not run")
    assert (out / name).read_text() == "mine"


def test_what_comes_while_a_report_is_made_is_left_alone(tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    _earlier(out)
    with pytest.raises(BadInput, match="holds 'notes.txt'"), staged(out) as folder:
        (folder / PAGE).write_text("new")
        (out / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds 'notes.txt'"), staged_page(page) as staging:
        _write(staging, "new")
        files_of(page).mkdir()
        (files_of(page) / "notes.txt").write_text("mine")
    assert (out / "notes.txt").read_text() == (files_of(page) / "notes.txt").read_text() == "mine"
    assert (out / PAGE).read_text() == "earlier" and not page.exists()


def test_weights_that_are_read_are_not_lost(tmp_path: Path) -> None:
    page, out = tmp_path / "page.html", tmp_path / "out"
    weights, other = files_of(page) / files.WEIGHTS, out / files.WEIGHTS
    with staged_page(page) as staging, staged(out) as folder:
        _write(staging, "first")
        (files_of(staging) / files.WEIGHTS).write_text("trained")
        (folder / files.WEIGHTS).write_text("trained, too")
    with staged_page(page, weights) as staging, staged(out, other) as folder:
        _write(staging, "second")
    assert _read(page) == ("second", "second")
    assert weights.read_text() == "trained" and other.read_text() == "trained, too"
    with staged_page(page, other) as staging, staged(out) as folder:
        _write(staging, "third")
    assert not weights.exists() and [path.name for path in out.iterdir()] == [files.LIST]


def _earlier(out: Path) -> None:
    with staged(out) as folder:
        (folder / PAGE).write_text("earlier")


def test_impossible_places_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MaxAffineError, match="out: .* cannot be written"), staged(tmp_path / "file" / "report"):
        pytest.fail("the block must not run")
