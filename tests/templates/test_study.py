"""The study of memorization: its data, its tables and its figure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from studies.memorization import training
from studies.memorization.figures import draw
from studies.memorization.grid import Run, runs
from studies.memorization.tables import all_tables, areas, treatment
from studies.store import open_store, records


def _run(**changes: float) -> Run:
    return Run(**({"data": "digits", "size": 40, "random": 0.0, "decay": 0.0, "seed": 0} | changes))  # pyright: ignore


def test_random_labels_are_random_and_true_ones_true(monkeypatch: pytest.MonkeyPatch) -> None:
    true, test, classes = training._parts(_run(size=500))
    for share in (0.5, 1.0):
        part, unseen, _ = training._parts(_run(size=500, random=share))
        assert torch.equal(part.inputs, true.inputs) and torch.equal(unseen.inputs, test.inputs)
        for mine, theirs in ((part, true), (unseen, test)):
            kept = float((mine.labels == theirs.labels).double().mean())
            assert kept == pytest.approx(1 - share * (1 - 1 / classes), abs=0.08)
    again, _, _ = training._parts(_run(size=500, random=0.5))
    assert torch.equal(again.labels, training._parts(_run(size=500, random=0.5))[0].labels)


def test_a_short_training_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "STEPS", 60)
    monkeypatch.setattr(training, "MEASURED", 40)
    found = training.outcomes(_run())
    assert found["train_fit"] > 0.9 and found == training.outcomes(_run())
    assert found["score"] == pytest.approx(1 - found["test_alignment"] / found["train_alignment"])


def test_every_step_has_a_batch_that_batch_norm_can_take() -> None:
    rows = training._batches(65, torch.Generator())
    assert len(rows) == training.STEPS and min(map(len, rows)) == 64


def test_the_area_counts_pairs() -> None:
    assert areas([0.0, 1.0], [2.0, 3.0]) == 1 and areas([2.0, 3.0], [0.0]) == 0 and areas([1.0], [1.0]) == 0.5


def _finished(path: Path) -> list[dict]:
    with open_store(path) as store:
        for run in runs():
            value = run.random * 0.9 + run.seed / 100 + run.decay / 1000
            names = ("own", "others", "ratio", "alignment", "fit")
            outcomes = {f"{part}_{name}": value for part in ("train", "test") for name in names}
            store.add(run.key(), outcomes | {"score": value}, 1.0)
    return records(path)


def test_tables_and_figure_from_finished_runs(tmp_path: Path) -> None:
    found = _finished(tmp_path / "runs.jsonl")
    tables = all_tables(found)
    lines = tables["separation"].splitlines()
    (score,) = [line for line in lines if line.startswith("| digits: score")]
    assert "1.00 | apart, above by 0." in score
    (gap,) = [line for line in lines if line.startswith("| digits: accuracy")]
    assert "0.50 | they overlap" in gap
    cells = tables["cells"].splitlines()[2:]
    assert len(cells) == len({(r["run"]["data"], r["run"]["size"], treatment(r["run"])) for r in found})
    assert "| digits, 100, true labels |" in cells[0]
    # Only the seed differs within a pair, so the decay alone remains.
    assert all("0.001 ± 0.000" in line for line in tables["decay"].splitlines()[2:])
    draw(found, tmp_path)
    assert (tmp_path / "memorization.png").stat().st_size > 10_000
    assert all_tables(found[:1])["separation"] == "Nothing here is complete yet.\n"
