"""HTML from the templates and scripts beside this module, and how numbers are written in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

MINUS = "−"
TEMPLATES = Path(__file__).parent / "templates"
# What draws planes on every page, as files that a server can give, and what a page that holds all its cells adds.
DRAWN = Path(__file__).parent / "drawn"
SCRIPTS = ("draw.js", "cells.js", "page.js")


def lay_out(template: str, **context: Any) -> str:
    """A filled-in template that needs no other file; its script is named by its hash, so that no other can run."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folders = TEMPLATES, DRAWN

    def read(name: str) -> str:
        return next(folder / name for folder in folders if (folder / name).is_file()).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    # The modules one after another: inside one script they need not import each other.
    script = "\n".join(re.sub(r"^import .*\n", "", read(name), flags=re.MULTILINE) for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(template).render(script=script, script_hash=f"sha256-{digest}", **context)


def data_uri(png: bytes) -> str:
    """A PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def number(value: float, digits: int = 3) -> str:
    """A number with some digits after the point.

    Args:
        value: The number.
        digits: How many.

    Returns:
        Its text.

    >>> number(-0.25), number(-0.0001)
    ('−0.250', '0.000')
    """
    if not isfinite(value):
        return "∞" if value > 0 else "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else f"{0:.{digits}f}"


def short(value: int | float) -> str:
    """A number with three digits.

    Args:
        value: The number.

    Returns:
        Its text.

    >>> short(-0.000123), short(15320.0)
    ('−0.000123', '15,320')
    """
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def rough(value: int) -> str:
    """An estimate with two digits.

    Args:
        value: The estimate.

    Returns:
        Its text.

    >>> rough(18102143), rough(87)
    ('18,000,000', '87')
    """
    return f"{float(f'{value:.2g}'):,.0f}"


def residual(value: float) -> str:
    """A residual as a power of ten.

    Args:
        value: The residual.

    Returns:
        Its text.

    >>> residual(0.0), residual(1.25e-7)
    ('0', '1.2e−07')
    """
    return "0" if value == 0 else f"{value:.1e}".replace("-", MINUS)


def percent(value: float) -> str:
    """A share in percent; a tiny one is not called zero.

    Args:
        value: The share, in [0, 1].

    Returns:
        Its text.

    >>> percent(0.5), percent(0.00002)
    ('50.0 %', '0.002 %')
    """
    share = 100 * value
    return (f"{share:.1g} %" if 0 < abs(share) < 0.05 else f"{share:.1f} %").replace("-", MINUS)


def shape(units: tuple[int, ...]) -> str:
    """A shape.

    Args:
        units: The sizes.

    Returns:
        Its text.

    >>> shape((3, 8, 8)), shape(())
    ('3 × 8 × 8', '1')
    """
    return " × ".join(map(str, units)) or "1"


def grouped(value: int) -> str:
    """A whole number with commas.

    Args:
        value: The number.

    Returns:
        Its text.

    >>> grouped(1438)
    '1,438'
    """
    return f"{value:,}"


def as_script(content: Any) -> str:
    r"""JSON that may stand inside a script element, which ``</script>`` would end.

    Args:
        content: What to write.

    Returns:
        The text.

    >>> as_script(["</script>"])
    '["\\u003c/script>"]'
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


_FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "short": short,
    "residual": residual,
    "percent": percent,
    "shape": shape,
    "grouped": grouped,
    "as_script": as_script,
}
