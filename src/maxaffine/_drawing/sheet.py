"""Figures laid out in inches, and their files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from maxaffine._drawing.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150


def whole_sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure whose coordinates are inches from its top left corner: laying out many axes takes seconds.

    Args:
        width: Width in inches.
        height: Height in inches.

    Returns:
        The figure, and the one pair of axes that covers it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_autoscale_on(False)
    ax.set_axis_off()
    return figure, ax


def axes_for(ax: Axes | None, width: float, height: float, sheet: bool = True) -> Axes:
    """The axes that a result draws itself in: the caller's, or those of a new figure of pyplot.

    Args:
        ax: The caller's axes, or None.
        width: Width of a new figure in inches.
        height: Height of a new figure in inches.
        sheet: Whether they hold panels and words alone: then they cover the figure, and no axis is drawn.

    Returns:
        The axes; ``.figure`` is what they are part of.

    Raises:
        MaxAffineError: When matplotlib is absent.
    """
    require("a figure")
    from matplotlib import pyplot

    if ax is None:
        figure = pyplot.figure(figsize=(width, height), layout=None if sheet else "constrained")
        ax = figure.add_axes((0, 0, 1, 1)) if sheet else figure.add_subplot()
    if sheet:
        ax.set_axis_off()
    return ax


def say(ax: Axes, text: str, left: float, top: float, color: str = "black", size: float = 7.0) -> None:
    """Write words at a place of a sheet.

    Args:
        ax: The sheet's axes.
        text: The words, in one line or several.
        left: Inches from the left.
        top: Inches from the top.
        color: Their color.
        size: Their size in points.
    """
    # A class may be called "$5$", which is not a formula.
    ax.text(left, top, text, fontsize=size, color=color, va="top", linespacing=1.15, parse_math=False)


def short(name: str, letters: int) -> str:
    """A name, cut to a number of letters.

    Args:
        name: The name.
        letters: At most this many.

    Returns:
        The name, or its beginning with an ellipsis.

    >>> short("Egyptian cat", 8)
    'Egyptia…'
    """
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def png(figure: Figure) -> bytes:
    """Encode a figure.

    Args:
        figure: The figure.

    Returns:
        A PNG file.
    """
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def svg(figure: Figure, tight: bool = False) -> str:
    """Encode a figure, its words as words.

    Args:
        figure: The figure.
        tight: Whether empty margins are cut off.

    Returns:
        An SVG file without a date, so that the same figure gives the same file.
    """
    from matplotlib import rc_context

    _lay_out(figure)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "maxaffine"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight" if tight else None)
    return buffer.getvalue()


def _lay_out(figure: Figure) -> None:
    """Place the axes once: matplotlib would lay them out again in every format, a quarter of the time of drawing."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
