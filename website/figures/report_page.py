"""The beginning of the demo's page, and the plane on it in the dark, as a browser shows them."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# A window of this side is seen smaller, so that a line has room.
SIDE, SMALLER, GAP = 1000, 0.7, 14


def report_page() -> bytes:
    """Report on our network for the digits, as `make demo` does, and take two pictures of the page.

    Returns:
        A PNG file of both, side by side.
    """
    from playwright.sync_api import sync_playwright

    side = round(SMALLER * SIDE)
    whole = Image.new("RGB", (2 * side + GAP, side), "white")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "page" / "report.html"
        command = [sys.executable, "-m", "maxaffine", "report", "--data", "digits", "--out", page.parent]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for place, anchor in enumerate(("", "#space")):
            tab = browser.new_page(viewport={"width": SIDE, "height": SIDE}, device_scale_factor=SMALLER)
            tab.emulate_media(color_scheme="dark" if anchor else "light", reduced_motion="reduce")
            tab.goto(f"{page.as_uri()}{anchor}")
            tab.wait_for_timeout(1000)  # what is scrolled to, and the plane, which a script draws
            whole.paste(Image.open(io.BytesIO(tab.screenshot())), (place * (side + GAP), 0))
        browser.close()
    buffer = io.BytesIO()
    whole.quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
