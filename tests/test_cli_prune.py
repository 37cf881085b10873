"""``maxaffine prune``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maxaffine._cli import main
from maxaffine.models import load_model

NETWORK = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    model[0].bias.data[4] = -9
    return model
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A network with a unit that is never active, and data for it."""
    (tmp_path / "nets.py").write_text(NETWORK)
    x = np.random.default_rng(0).uniform(0, 1, (40, 2))
    np.savez(tmp_path / "points.npz", x_train=x, y_train=x[:, 0] > 0.5, x_test=x[:8], y_test=x[:8, 0] > 0.5)
    return ["prune", f"{tmp_path / 'nets.py'}:make", str(tmp_path / "points.npz"), "--out", str(tmp_path / "out")]


def test_prune(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json", "--bounds=0,1", "--limit", "30"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] >= 1 and told["samples"] == 30 and "(proved)" in told["holds"]
    assert {found["unit"] for found in told["audit"]["layers"][0]["findings"] if found["kind"] == "never"} >= {4}
    assert all(Path(name).is_file() for name in told["files"]) and len(told["files"]) == 4
    whole, smaller = load_model(words[1]), load_model(str(tmp_path / "out" / "smaller.pt2"))
    x = torch.rand(7, 2)
    torch.testing.assert_close(smaller(x), whole(x), rtol=1e-5, atol=1e-6)
    assert main(words) == 1
    assert "here: --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    printed = capsys.readouterr().out
    assert "Audit on 40 inputs" in printed and "Simplified:" in printed and "wrote" in printed


def test_wrong_bounds(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--bounds=0,1,2"]) == 1
    assert "--bounds: 3 numbers" in capsys.readouterr().err
