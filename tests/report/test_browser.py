"""The plane of a report in a real Chromium, by the keys alone."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from torch import Tensor, nn

import maxaffine as ma
from maxaffine._report import Contents, DrawnPlane
from maxaffine._report.page import render
from maxaffine._report.sections.cut import Cut, Overview

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

DOTS = """() => {
  const frame = document.querySelector("svg.overview").getBoundingClientRect();
  return [...document.querySelectorAll("svg.overview circle")].map(dot => {
    const box = dot.getBoundingClientRect();
    const inside = box.left > frame.left && box.right < frame.right && box.top > frame.top && box.bottom < frame.bottom;
    return inside && document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2) === dot;
  });
}"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is called chromium")


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        alone = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=alone)
        yield browser
        browser.close()


class Octahedron(nn.Module):
    """Its level 0 has eight sides."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sum(1, keepdim=True) - 1


def _marked(page: Page) -> int:
    """Number of the cell that is told about."""
    return int(page.get_attribute(".plane", "data-cell") or "")


def test_regions_are_reached_by_the_arrow_keys(contents: Contents, tmp_path: Path) -> None:
    assert isinstance(contents.cut, Cut)
    (tmp_path / "page.html").write_text(render(contents), encoding="utf-8")
    with _browser() as browser:
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
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_surfaces_turn_and_grow_by_keys_wheel_and_pointer(tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    net = ma.capture(Octahedron(), torch.zeros(1, 3))
    ma.partition.surface(net, bounds=(-2, 2)).save(tmp_path / "page.html")
    with _browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 700}, color_scheme=scheme)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto((tmp_path / "page.html").as_uri())
        canvas, words = page.locator(".solid canvas"), page.locator(".solid output")

        def picture() -> bytes:
            page.wait_for_timeout(350)
            return canvas.screenshot()

        seen = [picture()]
        # Without the focus a wheel scrolls the page.
        canvas.hover()
        page.mouse.wheel(0, 40)
        page.mouse.move(1, 1)
        assert picture() == seen[0]
        canvas.focus()
        for key in ("ArrowLeft", "ArrowDown", "+", "Shift+ArrowRight"):
            page.keyboard.press(key)
            seen.append(picture())
        page.keyboard.press("Enter")
        assert re.fullmatch(r"polygon [1-8] of 8: 3 corners, around \(.*\)", words.inner_text())
        page.keyboard.press("0")
        page.mouse.move(1, 1)
        canvas.hover()  # in the middle lies a polygon
        assert words.inner_text().startswith("polygon ")
        page.mouse.wheel(0, 40)
        seen.append(picture())
        page.mouse.down()
        page.mouse.move(150, 300)
        page.mouse.up()
        seen.append(picture())
        page.select_option(".solid select", "faces")
        seen.append(picture())
        assert len(set(seen)) == len(seen)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert wrong == []


def test_what_is_folded_opens_by_its_links_and_on_paper(contents: Contents, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render(contents), encoding="utf-8")
    with _browser() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto((tmp_path / "page.html").as_uri())
        folded = page.locator("details.card:not([open]) > summary > h3")
        assert folded.count() > 0 and folded.first.is_visible()
        last = page.locator("article, [id^='input-']").last
        assert not last.is_visible()
        page.evaluate(f"location.hash = '{last.get_attribute('id')}'")
        page.wait_for_timeout(200)
        assert last.is_visible()
        page.goto((tmp_path / "page.html").as_uri().replace("page.html", "page.html?"))
        tall = page.evaluate("document.documentElement.scrollHeight")
        page.emulate_media(media="print")
        assert page.locator("[id^='input-']").last.is_visible()
        assert page.evaluate("document.documentElement.scrollHeight") > 1.5 * tall


def test_tables_that_are_cut_say_so_and_scroll_by_the_keys(contents: Contents, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render(contents), encoding="utf-8")
    with _browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto((tmp_path / "page.html").as_uri())
        cut = "[...document.querySelectorAll('.scroll')].filter(it => it.scrollWidth > it.clientWidth)"
        assert page.evaluate(f"{cut}.length") > 0
        assert page.evaluate(f"{cut}.every(it => it.tabIndex === 0 && it.getAttribute('aria-label'))")
        # No table is cut without them.
        wide = (
            "[...document.querySelectorAll('main table')].filter(it => it.offsetWidth > it.parentElement.clientWidth)"
        )
        assert page.evaluate(f"{wide}.every(it => it.closest('.scroll'))")
        table = page.locator("[aria-label='Table of the residuals']")
        table.focus()

        def side(left: bool) -> float:
            """How light the columns of pixels at one side are, less how light the middle is."""
            pixels = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("L")).astype(float)[-12:-6]
            return float((pixels[:, 5:9] if left else pixels[:, -9:-5]).mean() - np.median(pixels))

        assert side(left=False) < -10 and side(left=True) > -3
        for _ in range(30):
            page.keyboard.press("ArrowRight")
        page.wait_for_timeout(600)
        assert page.evaluate("document.activeElement.scrollLeft") > 0
        assert side(left=True) < -10 and side(left=False) > -3


@pytest.mark.parametrize("width", [390, 1280])
def test_the_three_inputs_are_seen_where_a_part_of_the_plane_is_shown(
    contents: Contents, tmp_path: Path, width: int
) -> None:
    assert isinstance(contents.cut, Cut)
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [0.5, 1.0]])
    answers = np.zeros((30, 40), np.int64)
    answers[:, 20:] = 1
    seen = Overview((-0.3, 2.3, -0.3, 1.3), np.array([0.9, 0.91, 0.1, 0.11]), corners, answers)
    cut = dataclasses.replace(contents.cut, share=0.1, overview=seen)
    (tmp_path / "page.html").write_text(render(dataclasses.replace(contents, cut=cut)), encoding="utf-8")
    with _browser() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((tmp_path / "page.html").as_uri())
        page.locator("svg.overview").scroll_into_view_if_needed()
        # Each dot lies within the drawing, and nothing over its middle.
        seen_dots = page.evaluate(DOTS)
        assert seen_dots == [True, True, True]
        words = page.locator("svg.overview text").all_text_contents()
        assert {f"input {number}" for number in cut.anchors} | {"top", "middle"} == set(words)
    # Where all of the plane is shown, the inputs are marked there.
    assert 'class="overview"' not in render(dataclasses.replace(contents, cut=dataclasses.replace(cut, overview=None)))
