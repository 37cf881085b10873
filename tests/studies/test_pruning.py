"""The study of pruning: a cell on a tiny network, that it goes on, and its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maxaffine.models import build
from studies.page import renewed
from studies.pruning import measuring, tables
from studies.pruning.__main__ import STUDY
from studies.pruning.tables import all_tables, bits, draw


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One network that is hardly trained."""
    recipe = {"train": 40, "test": 21, "epochs": 5, "again": 1, "halved": 0}
    for module in (measuring, tables):
        for name, value in {"DATA": {"digits": recipe}, "NETWORKS": {"cnn": {"channels": (4, 6), "hidden": 8}}}.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(measuring, "SEEDS", (0,))
    for module in (measuring, tables):
        monkeypatch.setattr(module, "RATIOS", (0.5,))


def test_the_study_runs_and_goes_on(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in all_tables([])))
    study = replace(STUDY, draw=lambda found: draw(found, tmp_path))
    arguments = ["--records", str(tmp_path / "records"), "--page", str(page)]
    study.main(arguments)
    study.main([*arguments, "--report-only"])
    assert capsys.readouterr().out.count("1 of 1 cells are finished") == 2
    (record,) = (json.loads(file.read_text()) for file in (tmp_path / "records").iterdir())
    found = record["found"]
    assert set(found["pruned"]) == {f"{name}-0.5" for name in measuring.CRITERIA}
    assert all(one["operations"] < 0.6 * found["operations"] for one in found["pruned"].values())
    assert found["overlap"]["spline"][-1] == 1 and len(found["distances"]["inputs"]) == 5
    assert page.read_text().count("CNN, digits") == 7 and (tmp_path / "accuracy.png").exists()


def test_masks_are_what_is_pruned() -> None:
    model: Any = build("cnn", (1, 8, 8), 3, seed=0, channels=(4, 6), hidden=8)
    example = torch.zeros(2, 1, 8, 8)
    for criterion in measuring.CRITERIA:
        mask = measuring.kept(model, example, criterion, 0)
        smaller: Any = measuring.pruned(model, example, criterion, 0.5, 0)
        assert torch.equal(smaller[0].weight, model[0].weight[mask[:4]])
        assert torch.equal(smaller[5].weight, model[5].weight[mask[4:]])


def test_bits_come_back() -> None:
    right = np.random.default_rng(0).random(21) < 0.5
    assert (bits(np.packbits(right).tobytes().hex(), 21) == right).all()


def test_the_page_is_that_of_the_records() -> None:
    text = STUDY.page.read_text(encoding="utf-8")
    assert renewed(text, all_tables(STUDY.finished(STUDY.records))) == text
