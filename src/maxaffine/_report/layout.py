"""HTML from the templates and scripts beside this module, and how pictures and numbers are written in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from html import escape
from math import floor, inf, isfinite, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxaffine._drawing import SOLID_SCRIPT, SOLID_STYLE, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MINUS = "−"
TEMPLATES = Path(__file__).parent / "templates"
# What draws planes on every page, as files that a server can give, and what a page that holds all its cells adds.
DRAWN = Path(__file__).parent / "drawn"
SCRIPTS = ("draw.js", "cells.js", "page.js")
# What matplotlib draws black: axes, ticks and lines that mark something.
INK = re.compile(r"#000000|\bblack\b")


def lay_out(template: str, **context: Any) -> str:
    """A filled-in template that needs no other file; its script is named by its hash, so that no other can run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([TEMPLATES, DRAWN, SOLID_STYLE.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    # The modules one after another: inside one script they need not import each other.
    context = {"plane": None, "solid": None} | context
    names = [DRAWN / name for name in SCRIPTS] + ([SOLID_SCRIPT] if context["solid"] else [])
    modules = (name.read_text(encoding="utf-8") for name in names)
    script = "\n".join(re.sub(r"^import .*\n", "", module, flags=re.MULTILINE) for module in modules)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(template).render(script=script, script_hash=f"sha256-{digest}", **context)


def data_uri(png: bytes) -> str:
    """A PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


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


def number(value: float, digits: int = 3) -> str:
    """A number with some digits after the point: −0.250, and 0.000 without a sign."""
    if not isfinite(value):
        return "∞" if value > 0 else "–"
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else f"{0:.{digits}f}"


def digits_for(values: Iterable[float], lead: float = 0.0) -> int:
    """Digits after the point that tell values apart: three of the largest, and two of a lead of one over another."""
    sizes = ((max(map(abs, values)), 3), (abs(lead), 2))
    return max([0, *(min(9, digits - 1 - floor(log10(size))) for size, digits in sizes if 0 < size < inf)])


def short(value: int | float) -> str:
    """A number with three digits: −0.000123, or 15,320."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def rough(value: int) -> str:
    """An estimate with two digits: 18,000,000."""
    return f"{float(f'{value:.2g}'):,.0f}"


def residual(value: float) -> str:
    """A residual as a power of ten: 1.2e−07."""
    return "0" if value == 0 else f"{value:.1e}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share in percent; a tiny one is not called zero."""
    share = 100 * value
    return (f"{share:.1g}%" if 0 < abs(share) < 0.05 else f"{share:.1f}%").replace("-", MINUS)


def shape(units: tuple[int, ...]) -> str:
    """A shape: 3 × 8 × 8, and 1 of a single number."""
    return " × ".join(map(str, units)) or "1"


def grouped(value: int) -> str:
    """A whole number with commas."""
    return f"{value:,}"


def as_script(content: Any) -> str:
    """JSON that may stand inside a script element, which ``</script>`` would end."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


# What the templates write values by.
_FILTERS: dict[str, Callable[..., Any]] = {
    filter_.__name__: filter_ for filter_ in (number, short, rough, residual, percent, shape, grouped, as_script)
}
