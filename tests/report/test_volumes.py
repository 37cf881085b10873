"""Reports on volumes: drawn in slices, and every match split into what goes by distance and the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import maxaffine as ma
from maxaffine._report import Contents, as_json, report
from maxaffine.data import load


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A network, and a file of volumes with values."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(18, 1)).eval()
    x = 3 * torch.randn(20, 1, 5, 8, 8)
    path = tmp_path_factory.mktemp("volumes") / "volumes.npz"
    np.savez(path, inputs=x.numpy(), labels=model(x).detach().numpy() + 0.1 * x[:, :, 2, 2, 2].numpy())
    return model.requires_grad_(False), path


def test_report(volumes: tuple[nn.Module, Path], tmp_path: Path) -> None:
    model, path = volumes
    found = report(model, load(path), tmp_path / "report", images=2, neighbors=2)
    assert found.exact
    page = found.page.read_text(encoding="utf-8")
    assert "Of the 5 slices across the second axis all are shown, row by row: 0, 1, 2, 3, 4." in page
    assert page.count(">by distance from the middle<") == 2 and "no plain picture" not in page
    answer = found.contents.answers[0]
    x = torch.from_numpy(answer.input).float()[None]
    shells = ma.capture(model, x.expand(2, -1, -1, -1, -1)).templates(x).by_shells()
    assert answer.splits[0].isotropic == pytest.approx(float(shells.isotropic), rel=1e-5)
    assert json.loads(found.results.read_text())["answers"][0]["splits"][0]["isotropic"] == answer.splits[0].isotropic


def test_only_volumes_are_split(contents: Contents) -> None:
    assert all(split.isotropic is None for answer in contents.answers for split in answer.splits)
    assert "isotropic" not in as_json(contents)


def test_no_channel_is_named_with_the_cure(volumes: tuple[nn.Module, Path], tmp_path: Path) -> None:
    model, path = volumes
    with np.load(path) as arrays:
        x, y = arrays["inputs"][:, 0], arrays["labels"]
    np.savez(tmp_path / "bare.npz", inputs=x, labels=y)
    with pytest.raises(ma.DataError, match=r"give volumes \(N, D, H, W\) a channel by inputs\[:, None\]"):
        load(tmp_path / "bare.npz")
    with pytest.raises(ma.CaptureError, match=r"takes one channel, .* Cure: give .* one, x\[:, None\], volumes"):
        report(model, (torch.from_numpy(x), torch.from_numpy(y)), tmp_path / "report")
