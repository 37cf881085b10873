"""The page: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

import base64
from collections.abc import Callable
from importlib import resources
from math import prod
from typing import Any

from maxaffine.drawing import is_image
from maxaffine.report import figures
from maxaffine.report.facts import Contents

TEMPLATE = "report.html.j2"
PANEL_PIXELS = 448
THUMBNAIL_PIXELS = 64
# Below this side, enlarged pixels stay squares; above it, the browser smooths.
PIXELATED = 100
# Rows up to which the operator table is open from the start.
OPEN_ROWS = 16


def render(contents: Contents) -> str:
    """Lay out a report.

    Args:
        contents: Everything that it says.

    Returns:
        HTML that refers to no other file; every picture is inside, as base64 PNG.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(_FILTERS)
    source = resources.files("maxaffine.report").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    shape = contents.origin.input_shape
    return environment.from_string(source).render(
        it=contents,
        picture=is_image(shape),
        channels=shape[0] if len(shape) == 3 else 1,
        pixelated=is_image(shape) and max(shape[-2:]) < PIXELATED,
        open_rows=OPEN_ROWS,
        panel=lambda array: _uri(figures.input_panel(array, PANEL_PIXELS)),
        thumbnail=lambda array: _uri(figures.input_panel(array, THUMBNAIL_PIXELS)),
        template=lambda array, scale: _uri(figures.template_panel(array, scale, PANEL_PIXELS)),
        legend=_uri(figures.legend_panel()),
    )


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _number(value: float, digits: int = 3) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def _residual(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}".replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _shape(units: tuple[int, ...]) -> str:
    return " × ".join(map(str, units)) or "1"


def _count(value: int) -> str:
    return f"{value:,}"


_FILTERS: dict[str, Callable[..., Any]] = {
    "number": _number,
    "residual": _residual,
    "percent": _percent,
    "shape": _shape,
    "grouped": _count,
    "prod": prod,
}
