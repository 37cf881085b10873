"""The study of orthogonal templates: what it measures, how it pairs, and that nothing finished is lost."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import nn

import maxaffine as ma
from studies import store
from studies.orthogonal import runner, tables
from studies.orthogonal.__main__ import PAGES, RUNS
from studies.orthogonal.analysis import OUTCOMES, Results, holm, paired
from studies.orthogonal.grid import (
    FEW,
    GRID,
    ROWS,
    SCRIPT,
    SEEDS,
    WEIGHTS,
    Cell,
    Form,
    Run,
    forms_to_choose_from,
    possible,
    runs,
)
from studies.orthogonal.networks import network
from studies.orthogonal.outcomes import calibration_error, judge, mean_squared_cosine, retrieval
from studies.orthogonal.tasks import TASKS, scaled, task
from studies.orthogonal.training import SCRIPT_BATCH, _balanced, trained
from studies.page import renewed

CELL = Cell("digits", "mlp", 200, False)
ROOT = Path(__file__).resolve().parents[2]


def test_the_grid_holds_what_the_question_asks_for() -> None:
    everything = runs()
    assert len(everything) == len(set(everything)) == len({json.dumps(run.key()) for run in everything})
    entries = {name: {run.key()[name] for run in everything} for name in everything[0].key()}
    assert entries["task"] == set(TASKS) and entries["model"] == {
        "mlp",
        "cnn-small",
        "cnn-large",
        "resnet",
        "cnn-script",
    }
    assert entries["batch_norm"] == {True, False} and {500, 55000} <= entries["size"] and len(SEEDS) >= 5
    assert entries["on"] == {"none", "classifier", "maps", "hard", "centroids"}
    for cell in {run.cell for run in everything}:
        assert {Run(cell, Form("none"), seed) for seed in cell.seeds} <= set(everything)
        assert forms_to_choose_from(cell, "classifier", "products") in (ROWS[1:], FEW[1:]) or cell.recipe == SCRIPT
    assert [form.weight for form in ROWS[1:]] == list(WEIGHTS)


def test_no_image_is_in_two_parts_and_seeds_draw_differently() -> None:
    def images(split: Any) -> set[bytes]:
        return {image.numpy().tobytes() for image in split.inputs}

    first, again, other = (task("digits", 200, seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert torch.equal(first.validation.inputs, other.validation.inputs)
    assert not images(first.train) & images(first.validation) and not images(first.train) & images(first.test)
    with pytest.raises(ValueError, match="has 1138 training images|has 11"):
        task("digits", 5000, 0)


def test_pairs_are_two_images_with_the_label_of_both() -> None:
    pairs, base = task("digit-pairs", 300, 0), task("digits", 200, 0)
    assert pairs.classes == 100 and pairs.input_shape == (1, 8, 16) and len(pairs.train) == 300
    label = {
        image.numpy().tobytes(): int(label) for image, label in zip(base.test.inputs, base.test.labels, strict=True)
    }
    for image, expected in zip(pairs.test.inputs[:50], pairs.test.labels[:50].tolist(), strict=True):
        left, right = (half.contiguous().numpy().tobytes() for half in image.split(8, dim=2))
        assert 10 * label[left] + label[right] == expected


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("name", ["mlp", "cnn-small", "cnn-large", "resnet", "cnn-script"])
def test_networks_are_piecewise_affine_with_and_without_batch_norm(name: str, batch_norm: bool) -> None:
    model = network(name, (1, 8, 8), 10, batch_norm, seed=0).eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert bool(norms) == batch_norm
    x = torch.rand(3, 1, 8, 8)
    assert ma.learning.OrthogonalTemplates(1.0)(model, x) > 0
    assert model(x).std() > 0 and torch.equal(model(x), network(name, (1, 8, 8), 10, batch_norm, seed=0).eval()(x))
    assert not torch.equal(model(x), network(name, (1, 8, 8), 10, batch_norm, seed=1).eval()(x))
    with pytest.raises(ValueError, match="no network 'vit'"):
        network("vit", (1, 8, 8), 10, True, 0)


def test_calibration_error_is_the_sum_over_bins() -> None:
    generator = random.Random(0)
    rows = [[generator.gauss(0, 2) for _ in range(3)] for _ in range(200)]
    labels = [generator.randrange(3) for _ in rows]
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(rows, labels, strict=True):
        total = sum(math.exp(value) for value in row)
        confidence = max(math.exp(value) / total for value in row)
        bins.setdefault(math.ceil(confidence * 15) - 1, []).append((confidence, row.index(max(row)) == label))
    expected = sum(abs(sum(c for c, _ in bin_) - sum(r for _, r in bin_)) for bin_ in bins.values()) / len(rows)
    assert calibration_error(torch.tensor(rows), torch.tensor(labels)) == pytest.approx(expected, rel=1e-6)
    sure = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
    assert calibration_error(sure, torch.tensor([0, 1])) == 0.0
    assert calibration_error(sure, torch.tensor([1, 0])) == 1.0


def test_retrieval_counts_the_nearest() -> None:
    distance = torch.tensor([[0.1, 0.2, 0.0], [0.5, 0.5, 0.9]])
    labels = torch.tensor([7, 8, 9])
    assert retrieval(distance, torch.tensor([9, 7]), labels, 1) == 1.0
    assert retrieval(distance, torch.tensor([9, 8]), labels, 2) == 0.5


def test_mean_squared_cosine_of_known_angles() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    assert mean_squared_cosine(rows) == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert mean_squared_cosine(torch.stack([rows, torch.ones(3, 2)])) == pytest.approx((1 / 3 + 1) / 2)


def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.orthogonal.training.LEAST_SAMPLES", 200)
    monkeypatch.setattr("studies.orthogonal.training.LEAST_PASSES", 2)


def test_a_run_follows_from_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    _short(monkeypatch)
    data = task("digits", 200, 3)

    def outcomes(form: Form, seed: int = 3) -> dict[str, float]:
        torch.rand(7)
        return judge(trained(Run(CELL, form, seed), data), data)

    plain = outcomes(Form("none"))
    assert plain == outcomes(Form("none"))
    assert plain == outcomes(Form("classifier", "products", 0.0))
    assert plain["test_loss"] != outcomes(Form("none"), seed=4)["test_loss"]
    for form in (Form("classifier", "products", 1.0), Form("maps", "cosines", 1.0), Form("hard")):
        found = outcomes(form)
        assert found.keys() == plain.keys() and found["row_cosine"] < plain["row_cosine"]
    assert {outcome.name for outcome in OUTCOMES} <= {*plain, "gap"}


def test_the_recipe_of_the_authors_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images scaled one by one, the same number of every class in each batch, and ten seeds."""
    data = scaled(task("digits", 200, 0))
    assert data.train.inputs.mean((1, 2, 3)).abs().max() < 1e-6
    assert torch.allclose(data.test.inputs.abs().amax((1, 2, 3)), torch.ones(len(data.test)))
    batches = list(_balanced(data, torch.Generator().manual_seed(0)))
    assert len(batches) == 120 * 4 and not torch.equal(batches[0], batches[1])
    for rows in batches[:20]:
        assert len(set(rows.tolist())) == SCRIPT_BATCH
        assert data.train.labels[rows].bincount().tolist() == [SCRIPT_BATCH // 10] * 10
    chosen = [run for run in runs() if run.cell.recipe == SCRIPT]
    assert {run.seed for run in chosen} == set(range(10))
    assert sorted({run.form.weight for run in chosen}) == pytest.approx([0, 0.0033, 0.0067, 0.01], abs=1e-4)
    monkeypatch.setattr("studies.orthogonal.training.SCRIPT_PASSES", 1)
    found = [judge(trained(run, data), data) for run in chosen[:4]]
    assert len({outcomes["test_loss"] for outcomes in found}) == 4


def test_what_is_finished_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _short(monkeypatch)
    path = tmp_path / "runs.jsonl"
    only = ["task=digits", "mlp", "size=200", "batch_norm=False", "on=classifier", "products", "seed=0"]
    assert runner.run_all(path, only, budget_minutes=0.0) == 6
    assert runner.run_all(path, [*only, "weight=1.0"], None) == 0
    kept = path.read_bytes()
    path.write_bytes(kept + b'{"run":{"recipe":1,"task":"dig')
    assert len(store.records(path)) == 1
    assert runner.run_all(path, [*only, "weight=10.0"], None) == 0
    assert path.read_bytes().startswith(kept) and len(store.records(path)) == 2
    monkeypatch.setattr(runner, "trained", lambda run, data: pytest.fail("run again"))
    assert runner.run_all(path, [*only, "weight=10.0"], None) == 0
    assert runner.run_all(path, only, budget_minutes=0.0) == 4
    with pytest.raises(SystemExit, match="no run of the grid"):
        runner.run_all(path, ["digts"], None)


def test_a_kill_loses_only_the_run_under_way(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    command = [sys.executable, "-m", "studies.orthogonal", "--runs", str(path), "--only", "digits", "mlp", "size=200"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while len(store.records(path)) < 1:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(SystemExit, match="being written by another run"), store.open_store(path):
            pytest.fail("opened twice")
    finally:
        process.kill()
        process.wait()
    finished = store.records(path)
    assert finished and all(record["run"] == run.key() for record, run in zip(finished, _first_runs(), strict=False))
    with store.open_store(path) as opened:
        assert finished[0]["run"] in opened


def _first_runs() -> list[Run]:
    return [run for run in runs() if run.cell.task == "digits" and run.cell.model == "mlp" and run.cell.size == 200]


@pytest.mark.parametrize("count", [2, 5, 9])
def test_intervals_are_those_of_the_paired_t_test(count: int) -> None:
    generator = random.Random(count)
    a, b = ([generator.gauss(mean, 1) for _ in range(count)] for mean in (0, 0.5))
    found = paired(a, b)
    expected = stats.ttest_rel(b, a)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(interval))


def test_intervals_without_spread() -> None:
    assert paired([1.0, 1.0], [1.0, 1.0]).p == 1.0
    assert paired([1.0, 2.0], [2.0, 3.0]).p == 0.0


def test_holm_steps_down() -> None:
    assert holm([0.04, 0.01, 0.03]) == [False, True, False]
    assert holm([0.02, 0.01, 0.03]) == [True, True, True]
    assert holm([0.9]) == [False] and holm([]) == []


def _records(noise: float = 0.0) -> list[dict[str, Any]]:
    """Every outcome rises by 0.01 with weight 1, validation accuracy is highest there, accuracy falls with 100."""
    generator = random.Random(0)
    names = [outcome.name for outcome in OUTCOMES if outcome.name != "gap"]
    names += ["train_accuracy", "validation_accuracy", "row_cosine", "template_cosine"]
    found = []
    for form, seed in product([Form("none"), *forms_to_choose_from(CELL, "classifier", "products")], SEEDS):
        shift = {1.0: 0.01, 100.0: -0.5}.get(form.weight, 0.0)
        outcomes = {name: 0.5 + 0.01 * seed + shift + noise * generator.gauss(0, 1) for name in names}
        found.append({"run": Run(CELL, form, seed).key(), "outcomes": outcomes, "seconds": 1.0})
    return found


def test_lambda_is_chosen_by_validation_data_and_differences_are_paired() -> None:
    (chosen,) = Results(_records()).chosen()
    assert chosen.form == Form("classifier", "products", 1.0)
    accuracy = chosen.differences["test_accuracy"]
    assert (accuracy.baseline, accuracy.mean) == pytest.approx((52.0, 1.0)) and accuracy.half_width < 1e-9
    records = _records()
    for record in records:
        if record["run"]["weight"] == 10.0:
            record["outcomes"]["validation_accuracy"] += 1
        if record["run"]["weight"] == 0.1:
            record["outcomes"]["test_accuracy"] += 1
    (chosen,) = Results(records).chosen()
    assert chosen.form.weight == 10.0


def test_of_weights_that_differ_by_the_records_digits_the_smallest_is_chosen() -> None:
    """281 and 282 of 300 images, in another order: 1407 of 1500 both times."""
    records, counts = _records(), {0.1: (281, 282, 281, 282, 281), 1.0: (282, 281, 282, 281, 281)}
    counts[10.0] = (280, 280, 283, 283, 281)
    for record in records:
        count = counts.get(record["run"]["weight"], [0] * 5)[record["run"]["seed"]]
        record["outcomes"]["validation_accuracy"] = float(f"{count / 300:.5g}")
    (chosen,) = Results(records).chosen()
    assert chosen.form.weight == 0.1


def test_unfinished_cells_and_other_recipes_are_left_out() -> None:
    records = _records()
    assert Results(records[:-1]).chosen() == []
    assert len(Results(records[:-1]).comparisons()) == len(WEIGHTS) - 1
    for record in records:
        record["run"]["recipe"] = 0
    assert Results(records).comparisons() == []


def test_tables_mark_what_is_decided() -> None:
    found = tables.all_tables(Results(_records()))
    row = next(line for line in found["chosen"].splitlines() if line.startswith("| digits 200, mlp"))
    assert "| +1.00 ± 0.00 **+** |" in row and "classifier, products, 1 |" in row
    # The gap stays, since training and test accuracy rise alike; the calibration error rises, which is worse.
    assert "**-**" in row
    assert "| 30 of 120 | begun |" in found["status"]
    empty = tables.all_tables(Results([]))
    assert empty["chosen"].startswith("Nothing here is complete yet")


def test_every_row_of_the_grid_is_in_the_status() -> None:
    status = tables.status(Results([]))
    assert status.count("to run") == len(GRID)
    hard = [block for block in GRID for cell in block.cells() for form in block.forms if not possible(cell, form)]
    assert hard


def test_pages_are_renewed_between_their_marks() -> None:
    text = "a\n<!-- table one -->\nold\n<!-- end -->\nb <!-- table two -->\n<!-- end -->"
    expected = "a\n<!-- table one -->\n1\n<!-- end -->\nb <!-- table two -->\n2\n<!-- end -->"
    assert renewed(text, {"one": "1\n", "two": "2\n"}) == expected
    with pytest.raises(KeyError):
        renewed(text, {"one": ""})


def test_the_pages_show_the_committed_runs() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    results = tables.all_tables(Results(store.records(RUNS)))
    assert [renewed(text, results) for text in texts] == texts
    assert all(any(f"<!-- table {name} -->" in text for text in texts) for name in results)
