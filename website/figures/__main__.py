"""Draws pictures of the README, the theory and the report: `python -m website.figures [NAME ...]`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from website.figures import curvature, hero, logo, space, theory
from website.figures.report_page import CHROMIUM, report_page

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
DPI = 125
DRAWN: dict[str, Callable[[], Figure]] = {
    "curvature": curvature.boundary,
    "hero": hero.hero,
    "lipschitz": space.lipschitz,
    "logo": logo.logo,
    "regions": space.regions,
    "theory-max-affine": theory.max_affine,
    "theory-affine-map": theory.affine_map,
    "theory-matched-filter": theory.matched_filter,
    "theory-quantizer": theory.quantizer,
    "theory-layers": theory.layers,
    "theory-soft": theory.soft,
}


# Pictures of a page, for which a browser is needed.
PAGES: dict[str, Callable[[], bytes]] = {"report": report_page}


def draw(name: str) -> bytes:
    """Draw one picture.

    Args:
        name: A key of `DRAWN` or `PAGES`.

    Returns:
        A PNG file.
    """
    if name in PAGES:
        return PAGES[name]()
    buffer = io.BytesIO()
    DRAWN[name]().savefig(buffer, dpi=DPI)
    return buffer.getvalue()


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*DRAWN, *(PAGES if CHROMIUM else ())]:
        (FOLDER / f"{wanted}.png").write_bytes(draw(wanted))
        print(f"docs/images/{wanted}.png")
