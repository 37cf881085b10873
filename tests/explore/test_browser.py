"""The main path, clicked through in a real Chromium: no error on the page, no request elsewhere, pictures to look at.

MAXAFFINE_SCREENSHOTS=folder keeps the pictures.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, Request, expect, sync_playwright

from tests.explore.conftest import Server, Trained

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT = 120_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is called chromium")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("MAXAFFINE_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(server: Server) -> Iterator[Page]:
    """A page whose every message and request is watched."""
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # The browser itself reports replies such as 400, which the page answers with a message of its own.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith(server.address):
            wrong.append(f"asked {request.url}")

    with sync_playwright() as playwright:
        alone = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=alone)
        found = browser.new_page(viewport={"width": 1440, "height": 1000})
        found.set_default_timeout(WAIT)
        found.on("console", said)
        found.on("pageerror", lambda error: wrong.append(str(error)))
        found.on("request", asked)
        yield found
        browser.close()
    assert wrong == []


def _explained(page: Page, image: str, checkpoint: int) -> None:
    page.wait_for_selector(f"body[data-explained='{image} {checkpoint}']")
    page.wait_for_selector(f"#near-rows[data-shown='{image} {checkpoint}']")


def _shot(page: Page, path: Path) -> np.ndarray:
    page.mouse.move(2, 2)
    content = page.screenshot(path=path)
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def test_the_main_path(page: Page, server: Server, trained: Trained, pictures: Path) -> None:
    page.goto(server.address)
    _explained(page, "test/0", 1)
    assert page.title() == "net.py:make on digits, maxaffine explorer"
    assert page.locator("#thumbs a").count() == 48 and page.locator(".depth").count() == 3
    assert page.locator("#templates canvas").count() == 4

    # Another input by keyboard alone: its answer is the module's.
    page.locator("#thumbs a").nth(5).focus()
    page.keyboard.press("Enter")
    _explained(page, "test/5", 1)
    predicted = int(trained.modules[1](trained.data.test.inputs[5:6]).argmax())
    assert page.inner_text(".said").split()[0] == str(predicted)
    light = _shot(page, pictures / "explore-why.png")
    assert light.std() > 20

    # A neighbor is an input to ask about, too; "back" leads back.
    page.locator(".cards a").first.click()
    page.wait_for_selector("body[data-explained^='train/']")
    page.go_back()
    _explained(page, "test/5", 1)

    # Three inputs into the plane: one by its button, two dragged.
    page.click("#to-plane")
    page.locator("#thumbs a").nth(0).drag_to(page.locator(".slot").nth(1))
    page.locator("#thumbs a").nth(3).drag_to(page.locator(".slot").nth(2))
    page.wait_for_selector("body[data-plane^='1~test/5~test/0~test/3~']")
    regions = int(page.inner_text("#count").split()[0].replace(",", ""))
    assert regions > 3

    # A cell, by the pointer; the one across a side; and one by the keys alone.
    box = page.locator("#cells").bounding_box()
    assert box is not None
    page.locator("#cells").click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    page.wait_for_selector("#cell[data-cell]")
    first = page.get_attribute("#cell", "data-cell")
    assert page.locator("#cell canvas").count() == 2 and "active" in page.inner_text("#cell table")
    page.locator(".sides button:enabled").first.click()
    page.wait_for_selector(f"#cell[data-cell]:not([data-cell='{first}'])")
    drawn = _shot(page, pictures / "explore-plane.png")
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 200
    second = page.get_attribute("#cell", "data-cell")
    page.focus("#cells")
    page.keyboard.press("+")
    for _ in range(8):
        page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_timeout(1000)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#cell[data-cell]:not([data-cell='{second}'])")

    # Back in the training: everything follows, the plane too.
    page.click("#before")
    _explained(page, "test/5", 0)
    page.wait_for_selector("body[data-plane^='0~']")
    assert page.inner_text("#moment-name") == "first"
    page.select_option("#coloring", "depth")
    _shot(page, pictures / "explore-depth.png")
    page.click("#play")
    page.wait_for_selector("body[data-plane^='1~']")

    # A point of the plane, explained.
    page.locator("#cells").click(position={"x": 30, "y": 30})
    page.wait_for_selector("#cell[data-cell]")
    page.click("text=Explain this point")
    page.wait_for_selector("body[data-explained^='own/']")


def test_uploads(page: Page, server: Server, trained: Trained, tmp_path: Path) -> None:
    page.goto(server.address)
    _explained(page, "test/0", 1)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    page.set_input_files("#file", tmp_path / "broken.png")
    page.wait_for_selector("#message:not([hidden])")
    assert "broken.png: unreadable" in page.inner_text("#message")
    page.click("#message button[aria-label]")
    expect(page.locator("#message")).to_be_hidden()

    pixels = (trained.data.test.inputs[8, 0] * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    page.set_input_files("#file", tmp_path / "mine.png")
    page.wait_for_selector("body[data-explained^='own/']")
    image = page.evaluate("location.hash.slice(1)")
    _explained(page, image, 1)
    assert "mine.png" in page.inner_text("#verdict")


def test_a_phone_in_dark_mode(page: Page, server: Server, pictures: Path) -> None:
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 320, "height": 700})
    page.goto(server.address)
    _explained(page, "test/0", 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert _shot(page, pictures / "explore-phone.png").mean() < 110


def test_a_stopped_explorer_says_so(page: Page, server: Server) -> None:
    page.goto(server.address)
    _explained(page, "test/0", 1)
    page.route("**/explain*", lambda route: route.abort())
    page.locator("#thumbs a").nth(2).click()
    page.wait_for_selector("#message:not([hidden])")
    assert "Is it still running" in page.inner_text("#message")
