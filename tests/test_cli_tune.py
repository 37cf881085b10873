"""``maxaffine tune``: validation inputs are set aside before training, and the tuned network is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maxaffine import _data as data
from maxaffine._cli.main import main
from maxaffine._models import accuracy, load_model


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    labels = np.arange(100) % 2
    inputs = generator.normal(size=(100, 2)).astype("float32") * (1 + 2 * labels[:, None])
    np.savez(tmp_path / "rings.npz", x_train=inputs[:80], y_train=labels[:80], x_test=inputs[80:], y_test=labels[80:])
    return tmp_path / "rings.npz"


def test_tunes_tells_and_writes(npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned.pt2"
    words = ["tune", "mlp", str(npz), "--epochs", "2", "--grid", "0.6,0.9", "--json", "--test", "-o", str(out)]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["beta"] for trial in found["trials"]] == [1.0, 0.6, 0.9] and found["samples"] == [64, 16]
    assert found["best"] in (1.0, 0.6, 0.9) and "trained here: 2 epochs" in found["weights"]
    test = data.load(str(npz)).test
    assert accuracy(load_model(out), test) == pytest.approx(found["test"])
    assert load_model(out)(test.inputs[:3]).shape == (3, 2)


def test_without_test_the_test_part_is_not_asked(npz: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "mlp", str(npz), "--epochs", "1", "--grid", "0.9", "--form", "energy"]) == 0
    said = capsys.readouterr().out
    assert "test accuracy" not in said and "beta" in said


@pytest.mark.parametrize(
    ("words", "error"),
    [(["--grid", "1.5"], "grid"), (["-o", "tuned.pt"], "--out"), (["--features", "nothing"], "nothing")],
)
def test_bad_options(npz: Path, capsys: pytest.CaptureFixture[str], words: list[str], error: str) -> None:
    assert main(["tune", "mlp", str(npz), "--epochs", "0", *words]) == 1
    assert error in capsys.readouterr().err


def test_values_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(
        tmp_path / "v.npz", x=np.random.default_rng(0).normal(size=(30, 2)).astype("float32"), y=np.linspace(0, 1, 30)
    )
    assert main(["tune", "mlp", str(tmp_path / "v.npz"), "--epochs", "0"]) == 1
    assert "no classes" in capsys.readouterr().err
    assert torch.is_grad_enabled()
