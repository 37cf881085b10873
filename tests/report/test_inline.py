"""Figures as elements of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
from matplotlib.figure import Figure

from maxaffine._drawing import Spread, spread_figure
from maxaffine._report.layout import inline_svg


def _figure() -> Figure:
    spread = Spread("title", "label", {"training": np.arange(9.0), "test": np.arange(3.0)}, 4.0)
    return spread_figure([spread], "mark")


def test_an_element_that_a_page_can_hold_more_than_once() -> None:
    first, second = (inline_svg(_figure(), 'what "it" <shows>', key) for key in ("one", "two"))
    root = ElementTree.fromstring(first)
    assert root.tag == "svg" and root.get("role") == "img" and root.get("aria-label") == 'what "it" <shows>'
    assert not {"width", "height"} & set(root.keys()) and root.get("viewBox")
    names = [set(re.findall(r' id="([^"]*)"', text)) for text in (first, second)]
    referred = [set(re.findall(r'(?:url\(#|href="#)([^")]+)', text)) for text in (first, second)]
    assert names == referred and names[0] and not names[0] & names[1]
    assert "http" not in first and "<metadata" not in first


def test_its_ink_is_the_color_of_the_text() -> None:
    text = inline_svg(_figure(), "alt", "key")
    assert "currentColor" in text and "#000000" not in text and "fill: #ffffff" not in text
    assert ">label<" in text.replace("\n", ""), "words stay words"
