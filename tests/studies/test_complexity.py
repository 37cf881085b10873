"""The study of local complexity: what it measures on a small training, and its page from finished trainings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studies.complexity import __main__ as command
from studies.complexity import measuring
from studies.complexity.page import draw, measures
from studies.page import renew, renewed, table


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EPOCHS": (0, 1), "TRAINED": 60, "SAMPLES": 4, "PAIRS": 2, "WIDTH": 12}.items():
        monkeypatch.setattr(measuring, name, value)


def test_a_training_is_measured(small: None) -> None:
    rows = measuring.measured("random", 0)
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[0]["crossed_near"] != rows[1]["crossed_near"]
    assert all(row["density_near"] == pytest.approx(row["crossed_near"], rel=1e-6) for row in rows)
    assert json.loads(json.dumps(rows)) == rows


def test_random_labels_are_the_same_labels_elsewhere(small: None) -> None:
    true, random = measuring.digits("true", 3), measuring.digits("random", 3)
    assert true.train.equal(random.train)
    assert not true.labels.equal(random.labels)
    assert true.labels.bincount().equal(random.labels.bincount())


def test_page_keeps_its_text(tmp_path: Path) -> None:
    values = {"seed": 0, "complexity_train": 2.5}
    names = ("train_accuracy", "test_accuracy", *(f"complexity_{n}" for n in ("train", "test", "noise")))
    densities = [f"density_{n}" for n in ("same", "different", "near", "away")]
    rows = [
        {"labels": labels, "epoch": epoch, **dict.fromkeys((*names, *densities), 1.0 + epoch), **values}
        for labels in measuring.LABELS
        for epoch in measuring.EPOCHS
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table measures -->\nold\n<!-- end -->\nafter\n")
    renew(page, {"measures": measures(rows)})
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| complexity train | random | 2.5 | 2.5 (0) | 2.5 |\n" in text
    draw(rows, tmp_path / "local-complexity.png")
    assert (tmp_path / "local-complexity.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="marks"):
        renewed("no marks", {})


def test_tables() -> None:
    assert table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | ---: |\n| 1 | x |\n"
    assert table(["a", "b"], [[1, "x"]], numbers=False) == "| a | b |\n| --- | --- |\n| 1 | x |\n"
    assert table(["a"], []) == "Nothing here is complete yet.\n"


def test_finished_trainings_survive_a_cut_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.jsonl"
    first = [{"labels": "true", "seed": 0, "epoch": 0}]
    path.write_text(json.dumps(first) + "\n" + json.dumps(first)[:9])
    assert command.finished(path) == [first]
    monkeypatch.setattr(command, "runs", lambda: [("true", 0), ("random", 0)])
    monkeypatch.setattr(command, "measured", lambda labels, seed: [{"labels": labels, "seed": seed, "epoch": 0}])
    monkeypatch.setattr("sys.argv", ["studies.complexity", "--runs", str(path)])
    assert command.main() == 0
    assert [rows[0]["labels"] for rows in command.finished(path)] == ["true", "random"]
