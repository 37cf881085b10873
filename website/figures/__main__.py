"""Draws the pictures of the README and of the page on the theory: `python -m website.figures [NAME ...]`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from website.figures import hero, logo, space, theory

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
DPI = 125
DRAWN: dict[str, Callable[[], Figure]] = {
    "hero": hero.hero,
    "logo": logo.logo,
    "regions": space.regions,
    "theory-max-affine": theory.max_affine,
    "theory-affine-map": theory.affine_map,
    "theory-matched-filter": theory.matched_filter,
    "theory-quantizer": theory.quantizer,
    "theory-layers": theory.layers,
    "theory-soft": theory.soft,
}


def draw(name: str) -> bytes:
    """Draw one picture.

    Args:
        name: A key of `DRAWN`.

    Returns:
        A PNG file.
    """
    buffer = io.BytesIO()
    DRAWN[name]().savefig(buffer, dpi=DPI)
    return buffer.getvalue()


if __name__ == "__main__":
    for wanted in sys.argv[1:] or DRAWN:
        (FOLDER / f"{wanted}.png").write_bytes(draw(wanted))
        print(f"docs/images/{wanted}.png")
