"""The pictures of the published networks, drawn for the quickest of them, and the page that shows them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.weights.checks import needs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "real-networks.md"
NAMES = ("efficientnet-lite0", "dcgan", "mtcnn")
EMPTY = "".join(f"<!-- measured: {name} -->\n<!-- end: {name} -->\n" for name in NAMES)


@needs("facenet_pytorch", "skimage", "matplotlib")
def test_one_network_is_drawn_and_measured(tmp_path: Path) -> None:
    from examples.real_networks.__main__ import main

    page = tmp_path / "real-networks.md"
    page.write_text(EMPTY, encoding="utf-8")
    main(["mtcnn", "--docs", str(tmp_path)])
    with Image.open(tmp_path / "images" / "mtcnn.png") as picture:
        assert picture.size == (768, 612) and len(set(picture.convert("L").tobytes())) > 100
    text = page.read_text(encoding="utf-8")
    assert "| float64 | " in text.partition("measured: mtcnn")[2]
    assert EMPTY.partition("<!-- measured: mtcnn")[0] in text


@needs("skimage", "matplotlib")
def test_wrong_words_and_pages_are_refused(tmp_path: Path) -> None:
    from examples.real_networks.__main__ import filled, main

    with pytest.raises(SystemExit):
        main(["resnet", "--docs", str(tmp_path)])
    with pytest.raises(FileNotFoundError):
        main(["mtcnn", "--docs", str(tmp_path)])
    with pytest.raises(ValueError, match="measured: mtcnn"):
        filled("no comments here", "mtcnn", "numbers")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_every_network_exact(name: str) -> None:
    found = re.search(f"<!-- measured: {name} -->(.*)<!-- end: {name} -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    rows = re.findall(r"^\| (float\d+) \| (.*) \|$", found[1], re.MULTILINE)
    assert [dtype for dtype, _ in rows] == ["float64", "float32"]
    for _, cells in rows:
        *residuals, bound = map(float, cells.split(" | "))
        assert len(residuals) == 4 and max(residuals) <= bound
    assert float(rows[0][1].split(" | ")[-1]) == 1e-10


def test_the_pictures_are_small() -> None:
    shown = re.findall(r"\]\((images/[\w-]+\.png)\)", PAGE.read_text(encoding="utf-8"))
    assert len(shown) == 5
    assert all((PAGE.parent / name).stat().st_size < 400_000 for name in shown)
