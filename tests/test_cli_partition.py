"""``maxaffine partition``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maxaffine.cli import main


def test_partition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plane"
    words = ["partition", "--model", "mlp", "--epochs", "0", "--extent=0,0.5,0,0.5", "--out", str(out), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] and told["regions"] > 1 and told["area"] == pytest.approx(0.25)
    assert all(Path(name).is_file() for name in told["files"]) and len(told["files"]) == 3
    with np.load(out / "plane.npz") as arrays:
        assert len(arrays["areas"]) == told["regions"]
    # The folder of an earlier run is replaced.
    assert main([*words[:-1], "--anchors", "0,5,9"]) == 0
    printed = capsys.readouterr().out
    assert "regions:" in printed and "passed=True" in printed


@pytest.mark.parametrize(
    "words", [["--anchors", "0,1"], ["--anchors", "0,1,1"], ["--extent", "1,2"], ["--extent", "a,b"]]
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", *words]) == 2
    assert words[1] in capsys.readouterr().err


def test_anchor_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["partition", "--epochs", "0", "--anchors", "0,1,100000", "--out", str(tmp_path / "plane")]
    assert main(words) == 1
    assert "--anchors" in capsys.readouterr().err
