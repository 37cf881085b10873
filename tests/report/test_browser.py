"""The plane of a report in a real Chromium, by the keys alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from maxaffine._report import Contents
from maxaffine._report.page import render
from maxaffine._report.sections.cut import Cut

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is called chromium")


def _marked(page: Page) -> int:
    """Number of the one region that is marked."""
    marks = page.locator(".cell").evaluate_all("cells => cells.map(cell => cell.classList.contains('on'))")
    assert marks.count(True) == 1
    return marks.index(True)


def test_regions_are_reached_by_the_arrow_keys(contents: Contents, tmp_path: Path) -> None:
    assert isinstance(contents.cut, Cut)
    (tmp_path / "page.html").write_text(render(contents, "files"), encoding="utf-8")
    with sync_playwright() as playwright:
        alone = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=alone)
        page = browser.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        first, words = _marked(page), page.inner_text(".plane aside")
        page.focus(".plane > svg")
        seen = {first}
        for _ in range(3):
            page.keyboard.press("Shift+ArrowRight")
            seen.add(_marked(page))
        assert len(seen) > 1 and page.inner_text(".plane aside") != words
        for _ in range(30):
            page.keyboard.press("Shift+ArrowLeft")
            page.keyboard.press("Shift+ArrowDown")
        # The lower left corner, where the keys end.
        points = contents.cut.partition.cells.points
        corner = contents.cut.partition.corners(_marked(page)).numpy()
        assert (abs(corner - points.min(0)).max(1) < 1e-9).any()
        browser.close()
    assert wrong == []
