"""What holds for every page of a report, read off its tags."""

from __future__ import annotations

import re
from html.parser import HTMLParser

SECTIONS = ["next", "network", "exact", "why", "memorized", "same", "space"]
# Of a network that gives values.
VALUED = [name for name in SECTIONS if name != "memorized"]
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page's tags with their attributes, its words, and whether every element is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (self.open, tag, self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words += data

    def said(self, words: str) -> bool:
        return words in " ".join(self.words.split())


def check_page(text: str, sections: list[str] = SECTIONS) -> Page:
    """What holds for every page: it needs nothing else, is below 10 MB, and can be read without seeing it."""
    page = Page(text)
    assert len(text.encode()) < 10_000_000
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(names)) == len(names)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "audio", "video"}
        assert not {"srcset", "background", "action", "onload"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        if "src" in attributes:
            assert tag == "img" and (attributes["src"] or "").startswith("data:image/png;base64,")
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
        if tag == "a":
            link = attributes["href"] or ""
            assert (
                link.removeprefix("#") in names
                if link.startswith("#")
                else link == "results.json" or link.startswith("figures/")
            )
        if tag == "html":
            assert attributes["lang"] == "en"
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style and "@import" not in style and "://" not in text
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in style and "width=device-width" in text
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in zip(headings, headings[1:], strict=False))
    assert [name for name in names if name in {*SECTIONS, *sections}] == sections
    return page
