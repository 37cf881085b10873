"""The study of volumes: one seed on few crops, that it goes on, and its page."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch

from studies.page import renewed
from studies.volumes import __main__ as command
from studies.volumes import measuring
from studies.volumes.__main__ import DOCS, RECORDS, SEEDS, finished, main
from studies.volumes.measuring import shell_averages
from studies.volumes.tables import all_tables, ratio


def test_shell_averages_by_hand() -> None:
    x = torch.randn(1, 1, 11, 11, 11, generator=torch.Generator().manual_seed(0))
    averages = shell_averages(x)
    away = torch.tensor([[i, j, k] for i, j, k in product(range(-5, 6), repeat=3)]).square().sum(1)
    for place in (0, 70, 665, 666, 1330):
        assert averages.flatten()[place] == pytest.approx(float(x.flatten()[away == away[place]].mean()), abs=1e-6)
    # What is isotropic stays as it is.
    assert torch.allclose(shell_averages(averages), averages, atol=1e-6)


def test_it_runs_and_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes = {"FIELDS": 3, "TEST_FIELDS": 2, "CANDIDATES": 60, "EPOCHS": 1, "ASKED": 12}
    for name, value in sizes.items():
        monkeypatch.setattr(measuring, name, value)
    monkeypatch.setattr(command, "SEEDS", range(2))
    (tmp_path / "volumes.md").write_text("".join(f"<!-- table {name} -->\n<!-- end -->\n" for name in all_tables([])))
    records = tmp_path / "records"
    arguments = ["--records", str(records), "--docs", str(tmp_path)]
    main(arguments)
    written = (records / "seed-0.json").read_bytes()
    (records / "seed-1.json").unlink()
    main(arguments)
    found = finished(records)
    assert (records / "seed-0.json").read_bytes() == written and [record["seed"] for record in found] == [0, 1]
    for record in found:
        for truth in ("sphere", "noise", "ellipsoid"):
            shells = record["found"][truth]["shells"]
            assert 0 <= shells["variance_share"] <= 1 and shells["miss"] < 1e-5
    assert (tmp_path / "studies" / "volumes" / "shares.png").exists()
    (records / "seed-1.json").write_text(json.dumps(found[1] | {"recipe": 0}))
    assert len(finished(records)) == 1


def test_the_page_shows_the_records_and_says_what_they_say() -> None:
    page, found = (DOCS / "volumes.md").read_text(encoding="utf-8"), finished(RECORDS)
    assert renewed(page, all_tables(found)) == page and len(found) == len(SEEDS)
    for record in (record["found"] for record in found):
        sphere, noise, ellipsoid = (record[truth] for truth in ("sphere", "noise", "ellipsoid"))
        assert ratio(sphere) < 0.3 and ratio(noise) < 1.03 < ratio(ellipsoid)
        for isotropic in (sphere, noise):
            assert isotropic["shells"]["variance_share"] > 0.85 > 0.7 > ellipsoid["shells"]["variance_share"]
            assert isotropic["shells"]["exchanged"] < 0.06 < 0.15 < ellipsoid["shells"]["exchanged"]
