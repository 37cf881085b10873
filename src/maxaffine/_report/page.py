"""The page of a report or a lookup: one HTML file that needs nothing else and no network."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from math import isfinite
from typing import Any

import numpy as np

from maxaffine._data import without_classes
from maxaffine._drawing import Kind, Panel, kind_of, panel_figure, scale_end, spread_figure
from maxaffine._report import figures
from maxaffine._report.audit import DRAWN, Audit, audit_rows
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Neighborhoods
from maxaffine._report.illustrations import neighbors_name, offsets_name, templates_name
from maxaffine._report.inline import inline_svg
from maxaffine._report.layout import data_uri, lay_out, percent, rough
from maxaffine._report.lookup import Lookup
from maxaffine._report.plane_page import plane_content
from maxaffine._report.sections.answers import Answer
from maxaffine._report.sections.cut import Cut
from maxaffine._report.sections.hints import ERRORS
from maxaffine._report.subject import SIDES, Meaning
from maxaffine._templates import Memorization, memorization_spreads
from maxaffine.errors import MaxAffineError

TEMPLATE, NEIGHBORS = "report.html.j2", "neighbors.html.j2"
SECTIONS = ("network", "exact", "why", "memorized", "same", "space", "next")
MOST_BYTES = 9_500_000
# Longest side of a picture, and of a thumbnail; the next where a page is too large.
SIZES = ((448, 64), (192, 48), (96, 32), (48, 24))
# Of the templates of all regions of the plane.
TEMPLATE_BYTES = 1_500_000
# Below this side, enlarged pixels stay squares; above it, the browser smooths.
PIXELATED = 100
# Rows up to which the operator table is open from the start.
OPEN_ROWS = 16
# What the links to the sections say.
PLACES = {
    "network": "what is it made of?",
    "exact": "is it exact?",
    "memorized": "did it memorize?",
    "same": "treated as the same",
    "space": "how the space is cut",
}
# Inputs of a suspect's neighborhood that the page shows; the figure beside it shows all.
EXAMPLES = 6


def render(contents: Contents | Lookup) -> str:
    """The page of a report or a lookup, below 10 MB, every picture inside; it links to the figures beside it."""
    whole = isinstance(contents, Contents)
    plane = _plane(contents, contents.cut) if whole and isinstance(contents.cut, Cut) else None
    for largest, thumbnail in SIZES:
        pictures = _Pictures(contents.origin.input_shape, largest, thumbnail)
        context = _alike(contents, pictures) | (_everything(contents, pictures) if whole else {})
        page = lay_out(TEMPLATE if whole else NEIGHBORS, plane=plane, **context)
        if len(page.encode(errors="backslashreplace")) <= MOST_BYTES:
            return page
    raise MaxAffineError("images: the page would be larger than 10 MB; show fewer test inputs")


def scale(answer: Answer) -> float:
    """The absolute value at the ends of the colors that all templates of an answer share."""
    return scale_end([split.template for split in answer.splits])


def _plane(contents: Contents, cut: Cut) -> dict[str, Any]:
    def name(number: int) -> str:
        if contents.meaning.valued:
            return cut.values[number].name if cut.values else f"output {number}"
        if contents.meaning is Meaning.SIDE:
            return SIDES[number]
        return contents.origin.class_names[number] if contents.meaning is not Meaning.SCORES else f"output {number}"

    called = [f"test input {index}" for index in cut.anchors]
    return plane_content(cut.partition, name, TEMPLATE_BYTES, called)


def _part(cut: Cut) -> str:
    """How much of the plane is shown, where it is not all of it, and around what."""
    if cut.share >= 1:
        return ""
    whole = (
        f"The whole rectangle around the {'three' if cut.anchors else 'test'} inputs has about {rough(cut.expected)}"
    )
    return f"{whole}, too many to show, so this is {percent(cut.share)} of its width and height, around {_middle(cut)}."


def _middle(cut: Cut) -> str:
    if not cut.anchors:
        return "its middle"
    if (change := cut.change) is not None:
        place = "the place where the answer changes first" if change.first else "a place where the answer changes"
        way = f"on the way from test input {change.start} to {change.end}"
        return f"{place} {way}, from {change.before} to {change.after}"
    middle = f"the middle of the way from test input {cut.anchors[0]} to {cut.anchors[1]}"
    if not cut.areas:
        return middle
    if cut.followed >= 1:
        return f"{middle}; the answer is the same all along the ways between the three inputs"
    return f"{middle}; no change of the answer was found on the ways between the three inputs"


def _alike(it: Contents | Lookup, pictures: _Pictures) -> dict[str, Any]:
    """What the section on neighbors is filled with."""
    audit = it.audit if isinstance(it.audit, Audit) else None
    return {
        "it": it,
        "sections": (),
        "labeled": len(it.origin.class_names) > 1,
        "valued": it.meaning.valued,
        "unlabeled": without_classes(it.origin.class_names),
        "near": it.neighbors if isinstance(it.neighbors, Neighborhoods) else None,
        "audit": audit,
        "examples": audit_rows(audit) if audit else {},
        "drawn": DRAWN,
        "most_examples": EXAMPLES,
        "picture": pictures.pictured,
        "pixelated": pictures.pixelated,
        "panel": pictures.panel,
        "thumbnail": pictures.small,
        "neighbors_name": neighbors_name,
    }


def _everything(it: Contents, pictures: _Pictures) -> dict[str, Any]:
    """What the other sections of a report are filled with."""
    cut = it.cut if isinstance(it.cut, Cut) else None
    memory = it.memory if isinstance(it.memory, Memorization) else None
    shape = it.origin.input_shape
    return {
        "sections": SECTIONS,
        "title": lambda name: it.titles.get(name, name),
        "places": PLACES,
        "competes": it.meaning in (Meaning.CLASSES, Meaning.SCORES),
        "memory": memory,
        "scored": memory is not None and isfinite(memory.score),
        "told": memory is not None and memory.score > ERRORS * memory.standard_error,
        "cut": cut,
        "part": _part(cut) if cut else "",
        "areas": ", ".join(f"{name} {percent(share)}" for name, share in cut.areas[:5]) if cut else "",
        "lines": kind_of(shape) is Kind.LINES,
        "channels": shape[0] if len(shape) == 3 else 1,
        "open_rows": OPEN_ROWS,
        "input": pictures.input,
        "image": pictures.image,
        "signed": pictures.signed,
        "scale": scale,
        "legend": data_uri(figures.legend_panel()),
        "histograms": pictures.histograms(memory) if memory else (),
        "templates_name": templates_name,
        "offsets_name": offsets_name,
    }


class _Pictures:
    """The pictures of a page in one size, as elements of HTML."""

    def __init__(self, shape: tuple[int, ...], largest: int, thumbnail: int) -> None:
        self.pictured = kind_of(shape) is Kind.PICTURE
        self.pixelated = self.pictured and max(shape[-2:]) < PIXELATED
        self.largest = largest
        self.thumbnail = thumbnail if self.pictured else None
        self.drawn = 0

    def panel(self, array: np.ndarray) -> str:
        """The address of an input's picture."""
        return data_uri(figures.input_panel(array, self.largest))

    def small(self, array: np.ndarray) -> str:
        """The address of a smaller one."""
        return data_uri(figures.input_panel(array, self.thumbnail))

    def input(self, array: np.ndarray, alt: str) -> str:
        """An input of the network."""
        if self.pictured:
            return self._picture(figures.input_panel(array, self.largest), alt)
        return self._axes(Panel(array, "", "input"), alt, None)

    def image(self, array: np.ndarray, alt: str) -> str:
        """A picture that the network gives, in colors from its least to its largest value."""
        reach = float(np.ptp(array)) or 1.0
        return self._picture(figures.input_panel((array - array.min()) / reach, self.largest), alt)

    def signed(self, array: np.ndarray, end: float | None, alt: str) -> str:
        """A map of signed values, its ends given or those of the values."""
        end = end or scale_end([array])
        if self.pictured:
            return self._picture(figures.template_panel(array, end, self.largest), alt)
        return self._axes(Panel(array, "", "signed"), alt, end)

    def histograms(self, memory: Memorization) -> list[tuple[str, str]]:
        """Each measure of memorization: its name and its drawing."""
        found = []
        for spread in memorization_spreads(memory):
            alt = f"Histograms of {spread.title} over training and test inputs: {spread.label}"
            found.append((spread.title, self._svg(lambda spread=spread: spread_figure([spread], "optimum"), alt)))
        return found

    def _picture(self, png: bytes, alt: str) -> str:
        kind = ' class="pixels"' if self.pixelated else ""
        return f'<img src="{data_uri(png)}" alt="{escape(alt)}"{kind}>'

    def _axes(self, panel: Panel, alt: str, end: float | None) -> str:
        return self._svg(lambda: panel_figure([[panel]], scale=end), alt)

    def _svg(self, draw: Callable[[], Any], alt: str) -> str:
        self.drawn += 1
        return inline_svg(draw(), alt, f"drawing-{self.drawn}")
