"""The tutorials as notebooks: `make notebooks`.

Every page becomes one notebook that stands alone: its code in cells, its pictures attached, links to other pages as
plain words.
"""

from __future__ import annotations

import base64
import doctest
import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.markdown import FENCE, blocks

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|attachment:)[^)\s]+\)")
_COMMENT = re.compile(r"<!--.*?-->\n*", re.S)


def notebook(page: Path) -> nbformat.NotebookNode:
    """Turn a page into a notebook.

    Args:
        page: A markdown page.

    Returns:
        The notebook, not yet executed; cells have ids made of the page's name, so that it is the same every time.
    """
    text = page.read_text(encoding="utf-8")
    code = {block.line: block for block in blocks(text)}
    cells, shown, end = [], "", 0
    for fence in FENCE.finditer(text):
        block = code.get(text.count("\n", 0, fence.start("code")) + 1)
        if block is None or block.skip:
            continue
        cells += _words(shown + text[end : fence.start()], page)
        cells.append(new_code_cell(_statements(block.code)))
        shown, end = "", fence.end()
    cells += _words(shown + text[end:], page)
    for number, cell in enumerate(cells):
        cell["id"] = f"{page.stem}-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def _statements(code: str) -> str:
    """The code without the prompts and outputs of a doctest."""
    if not code.lstrip().startswith(">>>"):
        return code.rstrip("\n")
    return "".join(example.source for example in doctest.DocTestParser().get_examples(code)).rstrip("\n")


def _words(text: str, page: Path) -> list[nbformat.NotebookNode]:
    """The markdown between two blocks as at most one cell, with the pictures inside it."""
    attached = {}

    def attach(match: re.Match[str]) -> str:
        file = page.parent / match[2]
        attached[file.name] = {"image/png": base64.b64encode(file.read_bytes()).decode("ascii")}
        return f"![{match[1]}](attachment:{file.name})"

    words = _LINK.sub(r"\1", _PICTURE.sub(attach, _COMMENT.sub("", text))).strip()
    if not words:
        return []
    return [new_markdown_cell(words, attachments=attached) if attached else new_markdown_cell(words)]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for tutorial in sorted(TUTORIALS.glob("*.md")):
        nbformat.write(notebook(tutorial), folder / f"{tutorial.stem}.ipynb")
        print(folder / f"{tutorial.stem}.ipynb")
