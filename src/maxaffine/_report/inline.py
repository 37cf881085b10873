"""Figures as part of a page: drawn in the page's own color of text, so that they can be read in dark mode, too."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from maxaffine._drawing import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What matplotlib draws black: axes, ticks and lines that mark something.
INK = re.compile(r"#000000|\bblack\b")


def inline_svg(figure: Figure, alt: str, key: str) -> str:
    """A figure as an ``svg`` element that takes the width it is given; ``key`` tells it from the page's others."""
    for patch in (figure.patch, *(ax.patch for ax in figure.axes)):
        patch.set_visible(False)
    text = svg(figure, tight=True)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Names that nothing refers to go; the others must differ from those of other figures.
    referred = set(re.findall(r'(?:url\(#|xlink:href="#)([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", text)
    for name in referred:
        text = text.replace(f'id="{name}"', f'id="{key}-{name}"').replace(f"#{name}", f"#{key}-{name}")
    text = INK.sub("currentColor", text).replace("xlink:href", "href")
    text = re.sub(r' (?:xmlns(?::\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r"<svg[^>]*", lambda head: re.sub(r' (?:width|height)="[^"]*"', "", head[0]), text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
