"""Templates in a notebook: a table of the matched filters, and the figure where matplotlib is installed."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from maxaffine.drawing import html_table, png
from maxaffine.errors import MaxAffineError
from maxaffine.templates.figures import largest

if TYPE_CHECKING:
    from maxaffine.templates.result import Templates

SAMPLES, UNITS, OPERATORS = 4, 5, 5
HEADER = ("sample", "unit", "value", "<A, x>", "b", "|A|", "cos(A, x)")


def page(templates: Templates) -> str:
    """Lay out the largest units of the first samples.

    Args:
        templates: The templates.

    Returns:
        HTML.
    """
    rows = [row for sample in range(min(SAMPLES, len(templates))) for row in _rows(templates, sample)]
    return f"<p><b>Templates</b>: {escape(repr(templates))}</p>{html_table([HEADER, *rows])}{_picture(templates)}"


def _rows(templates: Templates, sample: int) -> list[tuple[str, ...]]:
    columns = (templates.values, templates.inner, templates.offsets, templates.norms, templates.matches)
    lines = []
    for place in largest(templates, sample, UNITS):
        numbers = [f"{float(column[sample, place]):.4g}".replace("-", "−") for column in columns]
        lines.append((str(sample), templates.names[place], *numbers))
    return lines


def _picture(templates: Templates) -> str:
    try:
        figure = templates.plot(range(min(SAMPLES, len(templates))))
    except MaxAffineError as error:
        return f"<p>{escape(str(error))}</p>"
    encoded = base64.b64encode(png(figure)).decode("ascii")
    return f'<img alt="inputs and templates" src="data:image/png;base64,{encoded}">'
