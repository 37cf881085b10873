"""The study of curvature tuning: its tables from records, and one cell on a network small enough for a test."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from studies.curvature import measure as measuring
from studies.curvature.__main__ import STUDY, cells
from studies.curvature.measure import measure
from studies.curvature.tables import all_tables
from studies.curvature.transfers import TRANSFERS, Transfer
from studies.page import renewed


def test_every_transfer_has_five_seeds() -> None:
    assert len(cells()) == 5 * len(TRANSFERS) == len({cell.name for cell in cells()})


def test_page_and_records_agree() -> None:
    found = STUDY.finished(STUDY.records)
    text = STUDY.page.read_text(encoding="utf-8")
    assert renewed(text, all_tables(found)) == text


def test_tables_count_and_pair() -> None:
    def record(seed: int, tuned: list[int]) -> dict:
        right = {kind: dict.fromkeys(("test", "noisy", "attacked"), [1, 0, 0, 1]) for kind in ("probe", "last")}
        right["tuned"] = dict.fromkeys(("test", "noisy", "attacked"), tuned)
        found = {"beta": 0.9, "penalty": 0.1, "validation": {"1": 0.5, "0.9": 0.75}, "right": right}
        return {"kind": "fashion-digits", "settings": {"seed": seed}, "found": found}

    tables = all_tables([record(0, [1, 1, 0, 1]), record(1, [1, 1, 0, 1])])
    assert "| clean | 50.0% | 50.0% | 75.0% |" in tables["accuracies"]
    assert "+0.250" in tables["differences"] and "0.9, 0.9 | 50.0% | 75.0%" in tables["betas"]
    assert "Nothing here" in all_tables([])["accuracies"]


def test_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)).eval()

    monkeypatch.setitem(TRANSFERS, "small", Transfer(network, "2", True, "digits"))
    monkeypatch.setattr(measuring, "BETAS", (0.7, 0.9))
    found = measure("small", 0)
    assert found["validation"].keys() == {"1", "0.7", "0.9"} and found["right"].keys() == {"probe", "tuned", "last"}
    assert found["validation"][f"{found['beta']:g}"] == max(found["validation"].values())
    for right in found["right"].values():
        assert sum(right["attacked"]) <= sum(right["test"][: measuring.ATTACKED])
        assert sum(right["test"]) > 50
