"""``maxaffine partition``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maxaffine._cli import main


def test_partition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plane"
    words = ["partition", "--model", "mlp", "--epochs", "0", "--extent=0,0.5,0,0.5", "--out", str(out), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["exact"] and told["regions"] > 1 and told["area"] == pytest.approx(0.25)
    assert all(Path(name).is_file() for name in told["files"]) and len(told["files"]) == 3
    with np.load(out / "plane.npz") as arrays:
        assert len(arrays["areas"]) == told["regions"]
    assert main([*words[:-1], "--anchors", "0,5,9"]) == 1
    assert "here: --overwrite" in capsys.readouterr().err
    assert main([*words[:-1], "--anchors", "0,5,9", "--overwrite"]) == 0
    printed = capsys.readouterr().out
    assert "regions:" in printed and "exact=True" in printed


NETWORK = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
"""


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """A network of two numbers, and a file of rows of two numbers with a class for each."""
    (tmp_path / "nets.py").write_text(NETWORK)
    x = np.random.default_rng(0).uniform(-2, 3, (40, 2))
    np.savez(tmp_path / "points.npz", x_train=x, y_train=x[:, 0] > 0, x_test=x[:8], y_test=x[:8, 0] > 0)
    return [f"{tmp_path / 'nets.py'}:make", str(tmp_path / "points.npz"), "--out", str(tmp_path / "plane")]


@pytest.mark.parametrize(
    ("words", "area"),
    [
        (["--extent", "1"], 4.0),
        ([], None),
        (["--origin", "0,1", "--basis", "0,2,1,0"], 4.0),
        (["--origin=0,1", "--basis=0,2,1,0", "--extent=0,1,0,3"], 3.0),
        (["--extent", "1", "--points=0.25,-0.5,0.125,0.75"], 4.0),
    ],
)
def test_a_network_of_two_numbers(
    words: list[str], area: float | None, two: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["partition", *two, "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["exact"] and told["regions"] > 1
    if area is not None:
        assert told["area"] == pytest.approx(area)
        return
    with np.load(two[1]) as arrays, np.load(Path(two[3]) / "plane.npz") as found:
        x, vertices = arrays["x_test"], found["vertices"]
    assert (vertices.min(0) < x.min(0)).all() and (vertices.max(0) > x.max(0)).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--points", "0,0,1"], "--points: 3 numbers, but each input of shape (2,) has 2"),
        (["--origin", "0,0"], "--origin: give it together with --basis"),
        (["--origin", "0,0", "--basis", "1,0,0,1", "--anchors", "0,1,2"], "without --anchors"),
        (["--origin", "0,0,0", "--basis", "1,0,0,1"], "--origin: 3 numbers, but 1 x 2 are needed"),
        (["--origin", "0,0", "--basis", "1,0"], "--basis: 2 numbers, but 2 x 2 are needed"),
    ],
)
def test_planes_that_are_none(words: list[str], said: str, two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", *two, *words]) == 1
    assert said in capsys.readouterr().err


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


@pytest.mark.parametrize("plane", [["--origin=0,0", "--basis=1,0,0,1"], ["--anchors=0,1,2"], []])
def test_known_points_leave_the_partition_as_it_is(
    plane: list[str], two: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever way the plane is given."""
    with np.load(two[1]) as arrays:
        x = arrays["x_test"]
    known = 0.5 * x[0] + 0.3 * x[1] + 0.2 * x[2]  # inside the triangle of the anchors
    assert main(["partition", *two, "--json", *plane, "--points=" + ",".join(map(repr, map(float, known)))]) == 0
    given = json.loads(capsys.readouterr().out)
    assert main(["partition", *two, "--json", "--overwrite", *plane]) == 0
    without = json.loads(capsys.readouterr().out)
    assert given["exact"] and given["regions"] == without["regions"] and given["area"] == pytest.approx(without["area"])


def test_a_point_beside_the_plane(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["partition", "mlp", "digits", "--epochs", "0", "--extent=0,0.1,0,0.1", "--out", str(tmp_path / "plane")]
    assert main([*words, "--points=" + ",".join(["0.5"] * 64)]) != 0
    assert "points: " in capsys.readouterr().err
