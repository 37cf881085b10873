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
from maxaffine._report import FIGURES, PAGE, RESULTS, WEIGHTS, Contents, new_folder, write
from maxaffine._report.audit import Audit, audit_rows
from maxaffine.errors import BadInput, MaxAffineError

KINDS = ("png", "svg", "json")


@pytest.fixture(scope="module")
def out(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written") / "deep" / "report"
    with new_folder(out) as folder:
        assert not out.exists()
        write(contents, folder)
    return out


def test_everything_is_written(contents: Contents, out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {PAGE, RESULTS, FIGURES}
    names = ["operators", "memorization", "class-shares", "plane"]
    for one in contents.answers:
        names += [f"{kind}-{one.index:05}" for kind in ("templates", "offsets", "neighbors")]
    assert isinstance(contents.audit, Audit)
    names += list(audit_rows(contents.audit))
    assert {path.name for path in (out / FIGURES).iterdir()} == {f"{name}.{kind}" for name in names for kind in KINDS}
    for name in names:
        drawing, vectors, numbers = (out / FIGURES / f"{name}.{kind}" for kind in KINDS)
        assert np.asarray(Image.open(drawing)).std() > 0
        assert ElementTree.parse(vectors).getroot().tag.endswith("svg")
        assert json.loads(numbers.read_text(encoding="utf-8"))
    assert json.loads((out / RESULTS).read_text(encoding="utf-8"))["exact"] is True
    assert [path.name for path in out.parent.iterdir()] == ["report"]


def test_numbers_of_the_figures_are_the_networks(
    contents: Contents, model: nn.Sequential, data: DataSet, out: Path
) -> None:
    def numbers(name: str) -> Any:
        return json.loads((out / FIGURES / f"{name}.json").read_text(encoding="utf-8"))

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
def test_failures_leave_what_was_there(tmp_path: Path, failure: type[BaseException], earlier: bool) -> None:
    out = tmp_path / "new" / "report"
    if earlier:
        _earlier(out)
    with pytest.raises(failure), new_folder(out, overwrite=True) as folder:
        (folder / PAGE).write_text("half")
        raise failure
    assert {path.name for path in tmp_path.rglob("*")} == ({"new", "report", PAGE} if earlier else set())
    assert not earlier or (out / PAGE).read_text() == "earlier"


def test_an_earlier_report_is_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "report"
    for text in ("first", "second"):
        with new_folder(out, overwrite=text == "second") as folder:
            (folder / PAGE).write_text(text)
            (folder / f"{RESULTS if text == 'first' else WEIGHTS}").touch()
    assert {path.name for path in out.iterdir()} == {PAGE, WEIGHTS}
    assert (out / PAGE).read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("failure", [OSError("no space"), KeyboardInterrupt()])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_failed_exchange_puts_the_earlier_report_back(
    tmp_path: Path, turn: int, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it fails before the old folder is moved aside, or between the two renames."""
    out = tmp_path / "report"
    _earlier(out)
    rename, turns = Path.rename, iter(range(9))

    def fail(self: Path, target: Path) -> Path:
        if next(turns) == turn:
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((MaxAffineError, KeyboardInterrupt)), new_folder(out, overwrite=True) as folder:
        (folder / PAGE).write_text("new")
    assert {path.name for path in tmp_path.rglob("*")} == {"report", PAGE}
    assert (out / PAGE).read_text() == "earlier"


@pytest.mark.parametrize("name", ["notes.txt", "weights.safetensors", "figures/plane.png", "results.json"])
def test_what_is_there_is_not_replaced_unasked(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(BadInput, match="is there and not empty; name another folder, or pass overwrite=True"):
        with new_folder(out):
            pytest.fail("the block must not run")
    for overwrite in (True, False):
        with pytest.raises(BadInput, match="is a file"), new_folder(out / name, overwrite):
            pytest.fail("the block must not run")
    assert (out / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _earlier(tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", PAGE]


def test_the_folder_to_work_in_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").touch()
    monkeypatch.chdir(tmp_path / "work")
    for place in (".", "..", tmp_path):
        with pytest.raises(BadInput, match="holds the folder that you work in"), new_folder(place, overwrite=True):
            pytest.fail("the block must not run")


def test_what_comes_while_a_report_is_written_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInput, match="not empty"), new_folder(out) as folder:
        (folder / PAGE).write_text("new")
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "notes.txt"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    _earlier(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link", overwrite=True) as folder:
        (folder / PAGE).write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / PAGE).read_text() == "new"


def test_weights_that_are_read_are_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_folder(out) as folder:
        (folder / WEIGHTS).write_text("trained")
    for keep, kept in ((out / WEIGHTS, [WEIGHTS]), (tmp_path / "elsewhere", [])):
        with new_folder(out, overwrite=True, keep=keep):
            pass
        assert [path.name for path in out.iterdir()] == kept
        assert not kept or (out / WEIGHTS).read_text() == "trained"


def test_impossible_places_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MaxAffineError, match="out: .* cannot be written"), new_folder(tmp_path / "file" / "report"):
        pytest.fail("the block must not run")


def _earlier(out: Path) -> None:
    with new_folder(out) as folder:
        (folder / PAGE).write_text("earlier")
