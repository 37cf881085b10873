"""A report in one call: what the command writes, of whatever holds a network and data."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maxaffine import _models as models
from maxaffine._capture import capture
from maxaffine._cli import main
from maxaffine._data import DataSet, load
from maxaffine._report import FIGURES, PAGE, RESULTS, LeftOut, Report, files, report
from maxaffine.errors import BadInput, DataError, NotPiecewiseAffine
from tests.pages import VALUED, check_page


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures, two thirds of their time."""
    monkeypatch.setattr(files, "illustrations", lambda contents: ())


def _numbers(found: Report) -> dict:
    return json.loads(found.results.read_text(encoding="utf-8"))


def test_it_writes_what_the_command_writes(tmp_path: Path) -> None:
    digits = load("digits")
    model = models.build("mlp", digits.input_shape, digits.classes, seed=0)
    models.save_weights(model, tmp_path / "mlp.safetensors")
    words = ["report", "mlp", "--state-dict", str(tmp_path / "mlp.safetensors"), "--images", "3", "--train-limit", "60"]
    assert main([*words, "--out", str(tmp_path / "command")]) == 0
    said = "read from mlp.safetensors"
    found = report(model, digits, tmp_path / "call", images=3, train_limit=60, name="mlp", weights=said)
    assert found.folder == tmp_path / "call" and found.exact
    command, call = (
        {item.relative_to(folder): item.read_bytes() for item in folder.rglob("*.*")}
        for folder in (tmp_path / "command", found.folder)
    )
    assert set(command) == set(call) > {Path(PAGE), Path(RESULTS), Path(FIGURES) / "plane.svg"}
    assert [path for path, content in command.items() if call[path] != content] == []


@pytest.mark.usefixtures("undrawn")
def test_arrays_are_data(model: nn.Module, data: DataSet, tmp_path: Path) -> None:
    x, y = data.train.inputs, data.train.labels
    pair = report(model, (x, y), tmp_path / "tensors", images=1)
    same = report(model, (x.numpy(), y.numpy()), tmp_path / "arrays", images=1)
    assert _numbers(pair) == _numbers(same)
    origin = pair.contents.origin
    assert (origin.train_size, origin.test_size, origin.class_names) == (48, 12, ("0", "1", "2"))
    assert origin.doubtful_test and origin.model == "Sequential" and pair.contents.accuracy is not None
    alone = report(model, x, tmp_path / "alone", images=1)
    assert alone.contents.meaning.valued and alone.contents.accuracy is None
    check_page(alone.page.read_text(encoding="utf-8"), VALUED)


@pytest.mark.usefixtures("undrawn")
def test_a_captured_network_says_that_it_was_not_compared(model: nn.Module, data: DataSet, tmp_path: Path) -> None:
    net = capture(model, data.test.inputs[:2])
    found = report(net, data, tmp_path / "net", images=1)
    whole = report(model, data, tmp_path / "module", images=1)
    page = check_page(found.page.read_text(encoding="utf-8"))
    assert page.said("given without its module") and not page.said("✓ Exact.")
    assert "not checked in float32: the captured network was given without the module" in repr(found)
    for name in ("answers", "memory", "neighbors", "audit", "accuracy"):
        assert _numbers(found)[name] == _numbers(whole)[name]
    for until, output in (("0", "as_is"), (None, "pre_activation")):
        with pytest.raises(BadInput, match="until, output, smooth: the network is captured already"):
            report(net, data, tmp_path / "refused", until=until, output=output)
    with pytest.raises(BadInput, match="takes inputs of shape"):
        report(net, torch.zeros(9, 4), tmp_path / "refused")


@pytest.mark.usefixtures("undrawn")
def test_what_it_returns_reads_like_the_command(model: nn.Module, data: DataSet, tmp_path: Path) -> None:
    found = report(model, data, tmp_path / "page", images=1)
    lines = repr(found).splitlines()
    assert lines[0] == "Sequential: as the model was given" and lines[-1] == f"report: {tmp_path / 'page' / PAGE}"
    assert any(line.startswith("test accuracy: ") for line in lines)
    html = found._repr_html_()
    assert (
        html.startswith("<table>")
        and "test accuracy" in html
        and html.count("to do next") == max(1, len(found.contents.hints))
    )
    with pytest.raises(BadInput, match="pass overwrite=True"):
        report(model, data, tmp_path / "page")
    assert report(model, data, tmp_path / "page", images=1, overwrite=True).page.is_file()


def test_bad_data_is_told_and_nothing_is_written(model: nn.Module, data: DataSet, tmp_path: Path) -> None:
    x, y = data.train.inputs, data.train.labels
    for given, error, words in [
        ((x, y[:3]), DataError, "labels: 3 for 60 inputs"),
        ((x, y[1:].float()), DataError, "targets: "),
        ((x.byte(), y), BadInput, "data: its inputs are torch.uint8; give floating-point numbers"),
        ("digits", BadInput, "data: expected a DataSet, inputs and labels, or inputs alone"),
        (np.zeros((0, 1, 6, 6)), DataError, "holds nothing"),
    ]:
        with pytest.raises(error, match=words):
            report(model, given, tmp_path / "page")
    with pytest.raises(BadInput, match="output_index: the model has 1 outputs"):
        report(model, dataclasses.replace(data), tmp_path / "page", output_index=1)
    assert list(tmp_path.iterdir()) == []


def test_a_smooth_network_says_what_is_held(data: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).eval()
    with pytest.raises(NotPiecewiseAffine, match="smooth='frozen'"):
        report(smooth, data, tmp_path / "refused", images=1)
    found = report(smooth, data, tmp_path / "page", images=1, smooth="frozen")
    html = found.page.read_text(encoding="utf-8")
    assert found.exact and "not the Jacobian" in html and "bends only where" not in html
    assert isinstance(found.contents.cut, LeftOut) and "2 of them smooth" in repr(found)
    # Every residual stands under its name: that of the slopes is there for smooth networks alone.
    table = html.split('aria-label="Table of the residuals"')[1].split("</table>")[0]
    head, *rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]
    assert head[3:] == ["Output", "A x + b", "Parts of b", "A", "A, gates detached", "Alone", "Bound"]
    assert len(rows) == len(found.contents.checks) and {len(row) for row in rows} == {len(head)}
    (answer,) = found.contents.answers
    shown = capture(smooth, data.test.inputs[:2], smooth="frozen")
    units = [split.unit for split in answer.splits]
    (apart,) = shown.jacobian_distance(data.test.inputs[answer.index : answer.index + 1], units).tolist()
    assert found.contents.apart == (pytest.approx(apart, rel=1e-4),) and f"is {apart:.0%} of |J|" in html
    tangent = report(smooth, data, tmp_path / "tangent", images=1, smooth="tangent")
    assert tangent.contents.apart == ()
    assert tangent.exact and "A is\nthe Jacobian" in tangent.page.read_text(encoding="utf-8")
