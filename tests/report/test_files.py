"""A report appears as a whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maxaffine.errors import BadInput, MaxAffineError
from maxaffine.report import PAGE, Contents, files, staged, write


def test_everything_is_written(contents: Contents, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    with staged(out) as folder:
        assert not out.exists()
        write(contents, folder)
    assert {path.name for path in out.iterdir()} == {"report.html", "results.json", "figures"}
    shown = [one.index for one in contents.explanations]
    expected = {f"{kind}-{index:05}.png" for kind in ("templates", "neighbours") for index in shown}
    assert {path.name for path in (out / "figures").iterdir()} == expected
    assert json.loads((out / "results.json").read_text(encoding="utf-8"))["exact"] is True
    assert [path.name for path in out.parent.iterdir()] == ["report"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, MaxAffineError])
@pytest.mark.parametrize("earlier", [True, False])
def test_failures_leave_what_was_there(tmp_path: Path, failure: type[BaseException], earlier: bool) -> None:
    out = tmp_path / "report"
    if earlier:
        out.mkdir()
        (out / PAGE).write_text("earlier")
    with pytest.raises(failure), staged(out) as folder:
        (folder / PAGE).write_text("half")
        raise failure
    assert [path.name for path in tmp_path.rglob("*")] == (["report", PAGE] if earlier else [])
    assert not earlier or (out / PAGE).read_text() == "earlier"


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "report"
    for text in ("first", "second"):
        with staged(out) as folder:
            (folder / PAGE).write_text(text)
            (folder / f"{files.RESULTS if text == 'first' else files.WEIGHTS}").touch()
    assert {path.name for path in out.iterdir()} == {PAGE, files.WEIGHTS}
    assert (out / PAGE).read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_failed_exchange_puts_the_earlier_report_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / PAGE).write_text("earlier")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(MaxAffineError, match="cannot be written .*no space"), staged(out) as folder:
        (folder / PAGE).write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["report", PAGE]
    assert (out / PAGE).read_text() == "earlier"


def test_nothing_but_a_report_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds 'notes.txt'"), staged(tmp_path):
        pytest.fail("the block must not run")
    with pytest.raises(BadInput, match="is a file"), staged(tmp_path / "notes.txt"):
        pytest.fail("the block must not run")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_impossible_places_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MaxAffineError, match="out: .* cannot be written"), staged(tmp_path / "file" / "report"):
        pytest.fail("the block must not run")
