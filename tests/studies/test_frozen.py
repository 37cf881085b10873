"""The study of frozen maps: what is said and measured on tiny networks, that it goes on, and its page."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maxaffine as ma
from examples.smooth_networks import byte
from maxaffine.data import DataSet, Split
from studies.frozen import __main__ as command
from studies.frozen import attributions, cells, curves, figures, networks, tables
from studies.frozen.__main__ import PAGE, RECORDS, finished, main
from studies.frozen.attributions import METHODS, cotangents, frozen, gradient, with_rules
from studies.frozen.cells import Cell
from studies.frozen.curves import areas
from studies.frozen.networks import Subject, subject
from studies.frozen.tables import all_tables
from studies.intervals import interval
from studies.page import renewed

TINY = ("vit", "swiglu-gpt")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks of one block and two seeds, hardly trained, on garments that are noise and on a page of text."""
    generator = torch.Generator().manual_seed(0)

    def noise(count: int) -> Split:
        return Split(torch.rand(count, 1, 28, 28, generator=generator), torch.arange(count) % 10)

    garments = DataSet("noise", noise(20), noise(20), tuple("abcdefghij"))
    known, rest = byte.text()
    monkeypatch.setattr(networks, "_garments", lambda: garments)
    monkeypatch.setattr(figures, "load", lambda name: garments)
    monkeypatch.setattr(byte, "text", lambda: (known[:2000], rest[:400]))
    monkeypatch.setattr(byte, "BLOCKS", 1)
    monkeypatch.setattr(ma.models, "build", partial(ma.models.build, blocks=1))
    for module in (networks, cells, tables, command):
        for name, value in {"NAMES": TINY, "SEEDS": (0, 1), "INPUTS": 12, "EPOCHS": 1, "STEPS": 1}.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(attributions, "IG_STEPS", 2)
    monkeypatch.setattr(curves, "POINTS", 3)


def test_the_study_goes_on_where_it_was_stopped(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in all_tables([])))
    ran: list[str] = []
    known: dict[str, dict[str, Any]] = {}
    measure = Cell.measure

    def stopped(self: Cell, weights: Path) -> dict[str, Any]:
        ran.append(self.name)
        if len(ran) == 3:
            raise KeyboardInterrupt
        if self.seed != 1:
            known[self.network] = measure(self, weights)
        # Tracing is what takes time here, so the second seed says what the first did.
        return known[self.network] | {"seed": self.seed}

    monkeypatch.setattr(Cell, "measure", stopped)
    drawn: list[int] = []
    monkeypatch.setattr(command, "draw", lambda found, folder: drawn.append(len(found)))
    folders = ("records", "weights", "folder")
    arguments = [word for name in folders for word in (f"--{name}", str(tmp_path / name))] + ["--page", str(page)]
    arguments += ["--only", "vit-0", "swiglu-gpt-0", "vit-1", "swiglu-gpt-1", "vit-agreement"]
    main(arguments)
    assert ran == ["vit-0", "swiglu-gpt-0", "vit-1"] and "2 of 6 cells are finished" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "records").iterdir()) == ["swiglu-gpt-0.json", "vit-0.json"]
    assert "Nothing here is complete yet" in page.read_text()
    main(arguments)
    assert ran[3:] == ["vit-1", "swiglu-gpt-1", "vit-agreement"]
    main(arguments)
    assert len(ran) == 6 and drawn == [2, 5, 5]

    records = finished(tmp_path / "records")
    assert len(records) == 5 and json.loads(json.dumps(records)) == records
    assert set(records[1]["like_frozen"]) == {*METHODS} - {"frozen"}
    assert set(records[0]["areas"]["black"]) == {*METHODS, "random"} - {"silu"}
    assert all(max(record["maps"]["tangent_gap"]) < 1e-5 for record in records[:4])
    assert min(records[1]["maps"]["carriers_apart"]) > 0
    text = page.read_text()
    assert "| ViT: AttnLRP |" in text and "| GPT, SwiGLU: a space |" in text and "complete yet" not in text
    figures.draw(records, tmp_path / "folder")
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == ["areas.png", "garments.png"]
    with pytest.raises(SystemExit):
        main(["--only", "vit-7"])


def test_records_of_another_recipe_do_not_count(tmp_path: Path) -> None:
    for recipe in (cells.RECIPE, cells.RECIPE - 1):
        (tmp_path / "vit-0.json").write_text(json.dumps({"recipe": recipe}))
        assert len(finished(tmp_path)) == (recipe == cells.RECIPE)


@pytest.mark.parametrize("name", TINY)
def test_attnlrp_changes_gradients_alone_and_with_attention_held_it_is_the_frozen_map(
    tiny: None, name: str, tmp_path: Path
) -> None:
    one = subject(name, 0, tmp_path, trained=False)
    model, x = one.model.double(), one.x.double()
    u = cotangents(model, x, one.labels)
    slopes, changed = frozen(model, x, u), with_rules(model)
    torch.testing.assert_close(changed(x), model(x))
    assert float((gradient(changed, x, u) - gradient(model, x, u)).norm()) > 1e-3 * float(slopes.norm())
    held = gradient(with_rules(model, queries=0.0, values=1.0), x, u)
    if name == "vit":
        torch.testing.assert_close(held, slopes, rtol=1e-8, atol=1e-10)
    else:  # each factor of SwiGLU gets half, which is the mean of both choices of a carrier in its one block
        other = frozen(model, x, u, attributions.SILU)
        assert float((held - slopes).norm() / slopes.norm()) > 0.01
        assert float((held - (slopes + other) / 2).norm() / slopes.norm()) < 1e-10


def _counter(weights: list[float]) -> Subject:
    """One feature per part; the second logit is zero, so that the answer's probability is sigmoid(<weights, x>)."""
    model = nn.Linear(len(weights), 2, bias=False)
    model.weight.data = torch.stack([torch.tensor(weights), torch.zeros(len(weights))])
    x = torch.ones(1, len(weights))
    identity = {"sums": lambda values: values, "spread": lambda parts: parts}
    return Subject(model, x, torch.zeros(1, dtype=torch.long), {"zero": torch.zeros_like(x)}, **identity, quality=1.0)


def test_curves_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "POINTS", 4)
    one = _counter([1.0, -2.0, 3.0])
    said, ties = torch.tensor([[1.0, -2.0, 3.0]]), torch.zeros(1, 3)

    def area(sums: list[float]) -> float:
        heights = torch.tensor(sums).sigmoid().tolist()
        return (heights[0] / 2 + heights[1] + heights[2] + heights[3] / 2) / 3

    deletion, insertion = areas(one, one.labels, said, one.baselines["zero"], ties)
    assert deletion.item() == pytest.approx(area([2.0, -1.0, -2.0, 0.0]))
    assert insertion.item() == pytest.approx(area([0.0, 3.0, 4.0, 2.0]))
    worst = areas(one, one.labels, -said, one.baselines["zero"], ties)
    assert worst[0] > deletion and worst[1] < insertion
    # Where the same is said of all parts, the order is that of the ties.
    tied = areas(one, one.labels, torch.zeros(1, 3), one.baselines["zero"], torch.tensor([[2.0, 3.0, 1.0]]))
    assert tied[0].item() == pytest.approx(deletion.item())


def test_parts_of_images_and_texts(tiny: None, tmp_path: Path) -> None:
    for name, parts in (("vit", 49), ("swiglu-gpt", 64)):
        one = subject(name, 0, tmp_path, trained=False)
        numbers = torch.arange(12 * parts, dtype=torch.float32).view(12, parts)
        entries = one.x[0].numel() // parts
        assert one.sums(one.spread(numbers).expand_as(one.x)).equal(numbers * entries)
        assert all(absent.shape == one.x.shape for absent in one.baselines.values())


def test_intervals_hold_the_mean_and_decide_only_where_all_seeds_agree() -> None:
    generator = np.random.default_rng(1)
    noise = generator.normal(size=(3, 64))
    clear, mixed = interval(noise + 2), interval(noise + np.array([[2.0], [3.0], [-0.5]]))
    assert clear.low < clear.mean < clear.high and clear.decided and str(clear).startswith("**+")
    assert not mixed.decided and not interval(noise - noise.mean(1, keepdims=True)).decided
    # Both ways of drawing anew widen it: one mean of 192 numbers, and more where seeds differ.
    assert 1.96 / 192**0.5 < (clear.high - clear.low) / 2 < (mixed.high - mixed.low) / 2
    same = interval(np.full((3, 4), 0.5))
    assert (same.low, same.high) == (0.5, 0.5) and same.decided


def test_rank_correlations_leave_out_parts_that_hold_nothing() -> None:
    one = _counter([1.0, 1.0, 1.0, 1.0])
    one.x[0, 3] = 0
    first, second = torch.tensor([[1.0, 2.0, 3.0, 9.0]]), torch.tensor([[2.0, 4.0, 9.0, -9.0]])
    assert cells.correlations(one, first, second) == [pytest.approx(1.0)]
    assert cells.correlations(one, first, -second) == [pytest.approx(-1.0)]
    assert cells.correlations(one, first, Tensor([[1.0, 1.0, 1.0, 0.0]])) == [0.0]


def test_the_page_shows_the_stored_cells() -> None:
    records, text = finished(RECORDS), PAGE.read_text(encoding="utf-8")
    assert len(records) == len(cells.cells())
    assert renewed(text, all_tables(records)) == text
    assert renewed(text, all_tables(records[1:])) != text
