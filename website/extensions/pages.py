"""Pages of the repository within the site: README, changelog, benchmarks and the like.

Every page reads well where it lies, with links to its neighbors in the repository; here those links are turned into
links between pages of the site.
"""

from __future__ import annotations

import re
from os.path import relpath
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_PAGE = re.compile(r"^<!-- page: (\S+) -->$", re.M)
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")


def _held() -> dict[Path, Path]:
    """Which page of the site holds which page of the repository."""
    found = {}
    for page in DOCS.rglob("*.md"):
        for name in _PAGE.findall(page.read_text(encoding="utf-8")):
            found[(page.parent / name).resolve()] = page
    return found


def _relinked(text: str, home: Path, page: Path, held: dict[Path, Path]) -> str:
    """A text written for the folder ``home``, for a page of the site."""

    def link(match: re.Match[str]) -> str:
        target = (home / match[1]).resolve()
        if not target.exists():
            return match[0]
        return "](" + relpath(held.get(target, target), page.parent)

    return _LINK.sub(link, text)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    held = _held()

    def paste(match: re.Match[str]) -> str:
        file = (page.parent / match[1]).resolve()
        app.env.note_dependency(str(file))
        return _relinked(file.read_text(encoding="utf-8"), file.parent, page, held)

    source[0] = _PAGE.sub(paste, _relinked(source[0], page.parent, page, held))


def setup(app: Sphinx) -> dict[str, Any]:
    """Rewrite each page when it is read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
