"""Figures laid out in inches, their files, and the optional packages that draw and show."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from maxaffine.errors import BadInput, MaxAffineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150


def require(what: str, packages: Sequence[str] = ("matplotlib",), extra: str = "report") -> None:
    """Check, before any work is spent, that the packages of an extra are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MaxAffineError(
            f"{what} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            f"run pip install 'maxaffine[{extra}]'"
        )


def new_figure(width: float, height: float, constrained: bool = False) -> Figure:
    """An empty figure in inches, which no list of pyplot's keeps; ``constrained`` makes room for the words of axes."""
    require("a figure")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained" if constrained else None)


def whole_sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of one pair of axes, whose coordinates are inches from its top left corner."""
    # Everything is placed in these: a pair of axes for each picture would take seconds to lay out.
    figure = new_figure(width, height)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_autoscale_on(False)
    ax.set_axis_off()
    return figure, ax


def axes_for(
    ax: Axes | None,
    width: float,
    height: float,
    sheet: bool = True,
    size: float | None = None,
    projection: str | None = None,
) -> Axes:
    """The axes that a result draws itself in: the caller's, or those of a new figure, ``size`` inches wide."""
    require("a figure")
    if size is not None:
        if not 0 < size < inf:
            raise BadInput(f"size: {size} is not a width in inches; give a number above 0")
        width, height = size, height * size / width
    # Pyplot, unlike the figures of pages, shows the figure in a notebook.
    from matplotlib import pyplot

    if ax is None:
        figure = pyplot.figure(figsize=(width, height), layout=None if sheet else "constrained")
        ax = figure.add_axes((0, 0, 1, 1)) if sheet else figure.add_subplot(projection=projection)
    if sheet:
        ax.set_axis_off()
    return ax


def say(ax: Axes, text: str, left: float, top: float, color: str = "black") -> None:
    """Write words at a place of a sheet."""
    # A class may be called "$5$", which is not a formula.
    ax.text(left, top, text, fontsize=7, color=color, va="top", linespacing=1.15, parse_math=False)


def short(name: str, letters: int) -> str:
    """A name, cut to a number of letters."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def png(figure: Figure) -> bytes:
    """Encode a figure."""
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def svg(figure: Figure, tight: bool = False) -> str:
    """Encode a figure, its words as words; ``tight`` cuts empty margins off."""
    from matplotlib import rc_context

    _lay_out(figure)
    # Names hashed with a word of ours and no date: the same figure gives the same file.
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
