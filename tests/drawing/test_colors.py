"""Figures and pages show a class in one color."""

from __future__ import annotations

import re
from pathlib import Path

import maxaffine
from maxaffine._drawing import CLASSES


def test_the_script_of_pages_has_the_colors_of_figures() -> None:
    script = Path(maxaffine.__file__).parent / "_report" / "drawn" / "draw.js"
    (listed,) = re.findall(r"const CLASSES = \[(.*?)\]", script.read_text(encoding="utf-8"), re.DOTALL)
    assert tuple(re.findall(r"#[0-9a-f]{6}", listed)) == CLASSES
