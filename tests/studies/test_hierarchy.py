"""The study of region hierarchies: what it counts, what it keeps, and that its page shows what it kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from maxaffine._codes import Codes, region_hierarchy
from studies.hierarchy import __main__ as command
from studies.hierarchy import runs as recipe
from studies.hierarchy.__main__ import PAGE, RECORDS, main
from studies.hierarchy.runs import DRAWN, Run, few_units, measured, runs
from studies.hierarchy.store import finished, keep
from studies.hierarchy.tables import all_tables
from studies.page import renewed

QUICK = Run("digits", "narrow MLP", 0)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """A recipe that takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"TRAINING": 64, "COUNTED": 80, "FOLLOWED": 20, "SHOWN": 60, "EPOCHS": {"digits": 2}}
        for name, value in sizes.items():
            patch.setattr(recipe, name, value)
        yield


@pytest.fixture(scope="module")
def record(quick: None) -> dict:
    return json.loads(json.dumps(measured(QUICK)))


def test_few_units_are_all_units_where_there_are_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (60,), generator=generator)
    narrow = torch.randint(0, 3, (60, DRAWN), generator=generator) // 2
    wide = torch.cat([narrow, torch.zeros(60, 2000, dtype=torch.int64)], dim=1)
    codes = Codes.from_tensors({"narrow": (narrow, 2), "wide": (wide, 2)})
    found = few_units(codes, labels, seed=0)
    whole = region_hierarchy(codes, labels).levels[0].itself
    assert found["narrow"]["regions"] == whole.regions
    assert found["narrow"]["entropy"] == pytest.approx(whole.entropy)
    assert found["narrow"]["pair_purity"] == pytest.approx(whole.pair_purity)
    # Of 2,008 units, 8 drawn at random hardly ever hit one of those that differ.
    assert found["wide"]["regions"] is not None and found["wide"]["regions"] < 2


def test_a_run_holds_what_the_page_shows(record: dict) -> None:
    assert len(record["accuracy"]) == 3 and record["run"] == {"data": "digits", "network": "narrow MLP", "seed": 0}
    assert all(len(rows) == 3 == len(rows[0]) for rows in record["drift"].values())
    for moment in ("untrained", "trained"):
        counts = [level["together"]["regions"] for level in record[moment].values()]
        assert counts == sorted(counts) and len(counts) == 4
        assert all("ids" not in level["itself"] for level in record[moment].values())
    tables = all_tables([record])
    assert all(tables[name].startswith("| data |") for name in ("regions", "settling"))
    assert "| digits | 1 to 4 |" in tables["regions"] and "complete" in tables["operators"]


def test_finished_runs_are_kept_and_those_of_another_recipe_are_not(tmp_path: Path) -> None:
    assert finished(tmp_path, QUICK) is None
    record = {"recipe": recipe.RECIPE, "run": {}}
    keep(tmp_path / "runs", QUICK, record)
    assert finished(tmp_path / "runs", QUICK) == record
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-narrow-mlp-0.json"]
    keep(tmp_path / "runs", QUICK, record | {"recipe": -1})
    assert finished(tmp_path / "runs", QUICK) is None


def test_the_command_goes_on_where_it_was_stopped(
    record: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table settling -->\n<!-- end -->\n")
    ran: list[str] = []

    def stopped(run: Run) -> dict:
        ran.append(run.name)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return record | {"run": asdict(run)}

    monkeypatch.setattr(command, "measured", stopped)
    monkeypatch.setattr(command, "draw_trees", lambda folder: None)
    draw = command.draw
    monkeypatch.setattr(command, "draw", lambda records, folder: None)
    folders = ["--records", str(tmp_path / "runs"), "--folder", str(tmp_path), "--page", str(page)]
    arguments = [*folders, "--only", "digits-narrow"]
    main(arguments)
    assert ran == ["digits-narrow-mlp-0", "digits-narrow-mlp-1"] and "| digits | narrow MLP |" in page.read_text()
    main([*arguments, "--budget-minutes", "0"])
    main([*arguments, "--report-only"])
    assert len(ran) == 2
    monkeypatch.setattr(command, "draw", draw)
    main(arguments)
    assert ran[2:] == ["digits-narrow-mlp-1", "digits-narrow-mlp-2"]
    with Image.open(tmp_path / "drift.png") as picture:
        assert picture.size == (1100, 600)


@pytest.mark.usefixtures("quick")
def test_trees_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.hierarchy import figures

    monkeypatch.setattr(figures, "DATA", ("digits",))
    figures.draw_trees(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree-digits-trained.png", "tree-digits-untrained.png"]
    monkeypatch.setattr(figures, "trees", None)
    figures.draw_trees(tmp_path)


def test_the_page_shows_the_stored_runs() -> None:
    records = [finished(RECORDS, run) for run in runs()]
    assert len(records) == 18
    text = PAGE.read_text(encoding="utf-8")
    complete = [record for record in records if record is not None]
    assert len(complete) == 18 and renewed(text, all_tables(complete)) == text
    assert renewed(text, all_tables(complete[:-1])) != text
