"""The study of universality: its cells made small, that it goes on, and that its page shows what is stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from maxaffine.data import Split
from studies.page import renewed
from studies.universality import __main__ as command
from studies.universality import offsets, rates, ways
from studies.universality.functions import FUNCTIONS, samples
from studies.universality.tables import all_tables, exponent


def test_the_study_runs_goes_on_and_fills_its_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rates, "PIECES", (8, 16))
    for module in (rates, ways, offsets):
        monkeypatch.setattr(module, "SEEDS", (0, 1))
    monkeypatch.setattr(ways, "EPOCHS", 3)
    parts = Split(torch.rand(40, 1, 8, 8), torch.arange(40) % 10), Split(torch.rand(20, 1, 8, 8), torch.arange(20) % 10)
    monkeypatch.setattr(offsets, "data", lambda name: parts)
    for name, kept in {"RATES": command.RATES[:1], "WAVES": [("waves", 1)], "WAYS": command.WAYS[:1]}.items():
        monkeypatch.setattr(command, name, kept)
    few = [(kind, measure, keys, rows[:1]) for kind, measure, keys, rows in command.KINDS]
    monkeypatch.setattr(command, "KINDS", few)
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in all_tables([])))
    study = dataclasses.replace(command.STUDY, draw=lambda found: None)
    arguments = ["--records", str(tmp_path / "records"), "--page", str(page)]
    study.main([*arguments, "--only", "ways"])
    assert "1 of 4 cells" in capsys.readouterr().out
    study.main(arguments)
    assert "4 of 4 cells" in capsys.readouterr().out
    found = study.finished(tmp_path / "records")
    assert exponent({8: torch.tensor([1.0]).numpy(), 16: torch.tensor([0.25]).numpy()}) == pytest.approx(-2)
    assert "squared norm, D = 1 | -2.00" in page.read_text() and len(found) == 4
    fitted = [found[3]["found"][count][0]["fitted"]["rms"] for count in ("8", "16")]
    assert fitted[1] < fitted[0] / 2  # a quarter, in one dimension


def test_tangents_touch_from_below() -> None:
    for name in ("squared norm", "log-sum-exp"):
        f, x = FUNCTIONS[name](2, 0), samples(300, 2, 0)
        values = rates.tangents(f, x, 6, 0)(x)[:, 0].detach()
        assert bool((values <= f(x) + 1e-12).all()) and float((f(x) - values).min()) < 0.05


def test_a_network_without_offsets_answers_the_same_at_any_brightness() -> None:
    x = torch.rand(5, 1, 8, 8)
    for build in offsets.NETWORKS.values():
        plain, offset = build((1, 8, 8), 10, False), build((1, 8, 8), 10, True)
        assert torch.allclose(plain(0.3 * x), 0.3 * plain(x), atol=1e-6)
        assert not torch.allclose(offset(0.3 * x), 0.3 * offset(x), atol=1e-3)


def test_the_page_shows_the_stored_cells() -> None:
    found = command.STUDY.finished(command.STUDY.records)
    assert len(found) == len(command.cells())
    text = command.STUDY.page.read_text(encoding="utf-8")
    assert renewed(text, all_tables(found)) == text
