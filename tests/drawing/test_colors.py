"""Figures and pages show a class in one color."""

from __future__ import annotations

import re
from pathlib import Path

from matplotlib import colormaps
from matplotlib.colors import to_hex

import maxaffine
from maxaffine._drawing import CLASSES, LIGHTER, LIGHTER_BANDS


def test_the_script_of_pages_has_the_colors_of_figures() -> None:
    script = (Path(maxaffine.__file__).parent / "_report" / "drawn" / "draw.js").read_text(encoding="utf-8")
    (listed,) = re.findall(r"const CLASSES = \[(.*?)\]", script, re.DOTALL)
    assert f"const LIGHTER = {LIGHTER}, LIGHTER_BANDS = {LIGHTER_BANDS};" in script
    # The script's stops of values are matplotlib's viridis, from its end to its start.
    (stops,) = re.findall(r"const DEPTHS = \[(.*?)\]", script, re.DOTALL)
    places = [1 - place / 5 for place in range(6)]
    assert re.findall(r"#[0-9a-f]{6}", stops) == [to_hex(colormaps["viridis"](place)) for place in places]
    assert tuple(re.findall(r"#[0-9a-f]{6}", listed)) == CLASSES
