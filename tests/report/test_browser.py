"""The plane of a report in a real Chromium, by the keys alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from maxaffine._report import Contents, DrawnPlane
from maxaffine._report.page import render
from maxaffine._report.sections.cut import Cut

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is called chromium")


def _marked(page: Page) -> int:
    """Number of the cell that is told about."""
    return int(page.get_attribute(".plane", "data-cell") or "")


def test_regions_are_reached_by_the_arrow_keys(contents: Contents, tmp_path: Path) -> None:
    assert isinstance(contents.cut, Cut)
    (tmp_path / "page.html").write_text(render(contents), encoding="utf-8")
    with sync_playwright() as playwright:
        alone = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=alone)
        page = browser.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        first, words = _marked(page), page.inner_text(".plane aside")
        page.focus(".plane canvas.cells")
        seen = {first}
        for _ in range(3):
            page.keyboard.press("Shift+ArrowRight")
            seen.add(_marked(page))
        assert len(seen) > 1 and page.inner_text(".plane aside") != words
        for _ in range(30):
            page.keyboard.press("Shift+ArrowLeft")
            page.keyboard.press("Shift+ArrowDown")
        # The lower left corner, where the keys end.
        cells = DrawnPlane.of(contents.cut.partition).cells
        corners = cells.corners(_marked(page)).numpy()
        assert (abs(corners - cells.cells.points.min(0)).max(1) < 1e-9).any()
        # Colored by operator, and zoomed; a wheel scrolls the page, as it does elsewhere on it.
        answers = page.inner_text(".plane .key")
        page.select_option(".plane select", "depth")
        assert "(relu)" in page.inner_text(".plane .key") and page.inner_text(".plane .key") != answers
        before = page.locator(".plane canvas.cells").screenshot()
        page.locator(".plane canvas.cells").hover()
        page.mouse.wheel(0, 40)
        page.mouse.move(1, 1)
        page.focus(".plane canvas.cells")
        page.keyboard.press("+")
        page.wait_for_timeout(200)
        assert page.locator(".plane canvas.cells").screenshot() != before
        page.set_viewport_size({"width": 320, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        browser.close()
    assert wrong == []
