"""The study of generators: its cells on tiny networks, that it goes on, and its page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from maxaffine.data import DataSet, Split
from studies.generators import __main__ as command
from studies.generators import cells, dimensions, garments, mixture
from studies.generators.__main__ import PAGE, RECORDS, finished, main
from studies.generators.tables import all_tables
from studies.page import renewed


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed of networks that are hardly trained, on garments that are noise."""
    generator = torch.Generator().manual_seed(0)

    def noise(count: int) -> Split:
        return Split(torch.rand(count, 1, 28, 28, generator=generator), torch.arange(count) % 10)

    data = DataSet("noise", noise(200), noise(60), tuple("abcdefghij"))
    monkeypatch.setattr(garments, "load", lambda name: data)
    for module in (garments, mixture, dimensions, cells):
        tiny = {"STEPS": 2, "DRAWN": 60, "IMAGES": 40, "EPOCHS": 1, "SEEDS": (0,), "SIZES": range(1, 5), "WIDTH": 6}
        for name, value in (tiny | {"SEPARATIONS": (1.0,), "LATENTS": (2,), "WIDTHS": (6, 12)}).items():
            if hasattr(module, name) and not (module is dimensions and name == "LATENTS"):
                monkeypatch.setattr(module, name, value)
    garments._garments.cache_clear()
    garments._classifier.cache_clear()
    every = cells.cells

    def without_faces(folder: Path) -> list[cells.Cell]:
        return [cell for cell in every(folder) if cell.kind != "faces"]

    monkeypatch.setattr(command, "cells", without_faces)


def test_the_study_runs_and_goes_on(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in all_tables([])))
    arguments = ["--records", str(tmp_path / "records"), "--folder", str(tmp_path), "--page", str(page)]
    main([*arguments, "--only", "mixture"])
    assert "1 of 3 cells are finished" in capsys.readouterr().out
    main(arguments)
    assert "3 of 3 cells are finished" in capsys.readouterr().out
    records = finished(tmp_path / "records", tmp_path)
    one = records[1]["found"]
    assert 0 <= one["ideal"] < 1 and abs(one["even"] - one["ideal"]) < 0.5 and one["regions"] > 1
    ways = records[2]["found"]["ways"]
    assert list(ways) == list(garments.WAYS) and ways["plain"]["effective"] == 1
    assert "2 latents, even" in page.read_text()
    (tmp_path / "records" / "mixture-1.0-0.json").write_text(json.dumps(records[1] | {"recipe": 0}))
    assert len(finished(tmp_path / "records", tmp_path)) == 2


def test_the_page_has_the_tables_of_its_records() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text, all_tables(finished(RECORDS))) == text


def test_judgments_by_hand() -> None:
    real = torch.arange(10.0)[:, None]
    judged = garments._judged(real, torch.tensor([[0.5], [0.5], [100.0], [101.0], [102.0]]))
    # Of four distinct samples one is within three steps of the data, and covers what is within three steps of it.
    assert judged["precision"] == 0.25
    assert judged["coverage"] == np.mean(np.abs(np.arange(10) - 0.5) <= np.array([3, 2, 2, 2, 2, 2, 2, 2, 2, 3]))
    assert judged["recall"] == 1.0  # its third neighbor is 101.5 away
    apart = mixture._apart(torch.tensor([0, 0, 1, 1]), torch.tensor([0.25, 0.75]).double())
    assert apart == 0.25


def test_rings_have_their_separation() -> None:
    torch.manual_seed(0)
    points = mixture.ring(4000, 2.0)
    angles = torch.atan2(points[:, 1], points[:, 0])
    modes = (angles / (2 * torch.pi / mixture.MODES)).round().long() % mixture.MODES
    centers = torch.stack([points[modes == mode].mean(0) for mode in range(mixture.MODES)])
    gaps = (centers - centers.roll(1, 0)).norm(dim=1)
    assert float((gaps - 2.0).abs().max()) < 0.05
