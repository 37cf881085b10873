"""The page: one HTML file that needs nothing else and no network."""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from math import isfinite
from typing import Any
from urllib.parse import quote

import numpy as np

from maxaffine._data import without_classes
from maxaffine._drawing import Kind, Panel, kind_of, panel_figure, scale_end, spread_figure
from maxaffine._report import figures
from maxaffine._report.audit import DRAWN, Audit, audit_rows
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Neighborhoods
from maxaffine._report.illustrations import neighbors_name, offsets_name, templates_name
from maxaffine._report.inline import inline_svg
from maxaffine._report.layout import data_uri, laid_out, percent, rough
from maxaffine._report.plane_page import plane_content
from maxaffine._report.sections.answers import Answer
from maxaffine._report.sections.cut import Cut
from maxaffine._report.sections.hints import ERRORS
from maxaffine._report.sections.subject import SIDES, Meaning
from maxaffine._templates import Memorization, memorization_spreads
from maxaffine.errors import MaxAffineError

TEMPLATE = "report.html.j2"
GENERATOR = "maxaffine report"
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


def render(contents: Contents, files: str) -> str:
    """Lay out a report.

    Args:
        contents: Everything that it says.
        files: Name of the folder with its figures, which the page links to.

    Returns:
        HTML below 10 MB that needs no other file; every picture is inside.

    Raises:
        MaxAffineError: When even the smallest pictures are too many.
    """
    plane = _plane(contents, contents.cut) if isinstance(contents.cut, Cut) else None
    for picture, thumbnail in SIZES:
        page = _Pictures(contents, picture, thumbnail).page(files, plane)
        if len(page.encode(errors="backslashreplace")) <= MOST_BYTES:
            return page
    raise MaxAffineError("images: the page would be larger than 10 MB; explain fewer test inputs")


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


class _Pictures:
    """The pictures of a page in one size, as elements of HTML."""

    def __init__(self, contents: Contents, picture: int, thumbnail: int) -> None:
        shape = contents.origin.input_shape
        self.contents = contents
        self.pictured = kind_of(shape) is Kind.PICTURE
        self.pixelated = self.pictured and max(shape[-2:]) < PIXELATED
        self.largest = picture
        self.thumbnail = thumbnail
        self.drawn = 0

    def page(self, files: str, plane: dict[str, Any] | None) -> str:
        it = self.contents
        cut = it.cut if isinstance(it.cut, Cut) else None
        audit = it.audit if isinstance(it.audit, Audit) else None
        memory = it.memory if isinstance(it.memory, Memorization) else None
        shape = it.origin.input_shape
        return laid_out(
            TEMPLATE,
            it=it,
            files=files,
            link=quote(os.fsencode(files)),
            title=lambda name: it.titles.get(name, name),
            places=PLACES,
            generator=GENERATOR,
            labeled=len(it.origin.class_names) > 1,
            valued=it.meaning.valued,
            unlabeled=without_classes(it.origin.class_names),
            competes=it.meaning in (Meaning.CLASSES, Meaning.SCORES),
            memory=memory,
            scored=memory is not None and isfinite(memory.score),
            told=memory is not None and memory.score > ERRORS * memory.standard_error,
            near=it.neighbors if isinstance(it.neighbors, Neighborhoods) else None,
            audit=audit,
            examples=audit_rows(audit) if audit else {},
            drawn=DRAWN,
            most_examples=EXAMPLES,
            cut=cut,
            plane=plane,
            part=_part(cut) if cut else "",
            areas=", ".join(f"{name} {percent(share)}" for name, share in cut.areas[:5]) if cut else "",
            picture=self.pictured,
            lines=kind_of(shape) is Kind.LINES,
            pixelated=self.pixelated,
            channels=shape[0] if len(shape) == 3 else 1,
            open_rows=OPEN_ROWS,
            input=self.input,
            image=self.image,
            signed=self.signed,
            scale=scale,
            panel=lambda array: data_uri(figures.input_panel(array, self.largest)),
            thumbnail=lambda array: data_uri(figures.input_panel(array, self.thumbnail if self.pictured else None)),
            legend=data_uri(figures.legend_panel()),
            histograms=self.histograms(memory) if memory else (),
            templates_name=templates_name,
            offsets_name=offsets_name,
            neighbors_name=neighbors_name,
        )

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
