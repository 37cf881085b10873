"""Every Python block of the README and of the pages under docs/ runs and prints what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.markdown import absent, blocks, broken_links, needs, run_page

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The tutorials run as notebooks, in test_notebooks.py.
RUN = [page for page in PAGES if page.parent.name != "tutorials"]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for reason in filter(None, map(absent, needs(page.read_text(encoding="utf-8")))):
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)
    assert run_page(page) == sum(not block.skip for block in blocks(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("*.md")), *PAGES[1:]], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_readme_shows_code() -> None:
    assert any(not block.skip for block in blocks((ROOT / "README.md").read_text(encoding="utf-8")))


def _page(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_share_one_namespace(tmp_path: Path) -> None:
    python = ["x = 2", ">>> x + 1\n3", "assert x == 2"]
    text = "text\n```bash\nexit 1\n```\n" + "\n".join(f"```python\n{code}\n```\n" for code in python)
    assert run_page(_page(tmp_path, text)) == 3


def test_skip_needs_a_reason(tmp_path: Path) -> None:
    skipped = "<!-- skip: needs a GPU -->\n```python\nraise SystemExit\n```\n"
    assert run_page(_page(tmp_path, skipped)) == 0
    assert blocks(skipped)[0].skip == "needs a GPU"
    with pytest.raises(ValueError, match="say why"):
        run_page(_page(tmp_path, skipped.replace("needs a GPU", "")))


def test_needs_are_read_and_looked_for() -> None:
    assert needs("# t\n<!-- needs: weights -->\n<!-- needs: fashion-mnist -->\n") == ["weights", "fashion-mnist"]
    assert not absent("digits") and "neither a data set" in absent("no-such-set")


def test_skip_covers_one_block_only(tmp_path: Path) -> None:
    text = "<!-- skip: slow -->\n```python\npass\n```\n```python\n1 / 0\n```\n"
    with pytest.raises(ZeroDivisionError):
        run_page(_page(tmp_path, text))


def test_wrong_output_is_reported(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)Expected:.*4.*Got:.*3"):
        run_page(_page(tmp_path, "# title\n```python\n>>> 1 + 2\n4\n```\n"))


def test_error_names_the_line_of_the_page(tmp_path: Path) -> None:
    page = _page(tmp_path, "# title\n\n```python\nx = 1\ny = undefined\n```\n")
    with pytest.raises(NameError) as caught:
        run_page(page)
    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == (str(page), 5)


def test_broken_link_is_reported(tmp_path: Path) -> None:
    page = _page(tmp_path, "[a](page.md#top) ![b](gone.png) [c](https://example.org/x) [d](#here)")
    assert broken_links(page) == ["gone.png"]
