"""The page of a report or a lookup: one HTML file that needs nothing else and no network."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from maxaffine._data import without_classes
from maxaffine._drawing import (
    Kind,
    Panel,
    channels_of,
    is_stack,
    kind_of,
    panel_figure,
    scale_end,
    slice_places,
    spread_figure,
)
from maxaffine._report import figures
from maxaffine._report.audit import ALIKE, DRAWN, TWICE, WRONG, Audit, audit_rows
from maxaffine._report.contents import Contents
from maxaffine._report.facts import Neighborhoods, Origin
from maxaffine._report.features import features_figure, features_of, margin_figure, slopes_in_words
from maxaffine._report.illustrations import figure_name
from maxaffine._report.layout import data_uri, digits_for, inline_svg, lay_out, percent
from maxaffine._report.lookup import Lookup
from maxaffine._report.overview import overview_svg
from maxaffine._report.plane_page import plane_content
from maxaffine._report.sections.answers import Answer
from maxaffine._report.sections.cut import Cut
from maxaffine._report.sections.fit import Fit
from maxaffine._report.sections.generated import Generated
from maxaffine._report.sections.level import LevelSet
from maxaffine._report.sections.memory import much_memorized
from maxaffine._report.spectra import spectra_figure, spectra_of
from maxaffine._report.subject import SIDES, Meaning
from maxaffine._templates import Memorization, memorization_spreads
from maxaffine.errors import MaxAffineError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE, NEIGHBORS = "report.html.j2", "neighbors.html.j2"
SECTIONS = ("next", "network", "exact", "fit", "generated", "why", "memorized", "same", "space", "surface")
OPENED = 2  # cards of inputs that are not folded
CARDS = {TWICE: "Near-duplicates", ALIKE: "Pairs treated almost alike", WRONG: "Labels to look at"}
MOST_BYTES = 9_500_000
# Longest side of a picture, and of a thumbnail; the next where a page is too large.
SIZES = ((448, 64), (192, 48), (96, 32), (48, 24))
# Of the templates of all regions of the plane.
TEMPLATE_BYTES = 1_500_000
SOLID_FACES = 20_000  # of a surface, about 800 kB
# Below this side, enlarged pixels stay squares; above it, the browser smooths.
PIXELATED = 100


def render(contents: Contents | Lookup) -> str:
    """The page of a report or a lookup, below 10 MB, every picture inside; it links to the figures beside it."""
    whole = isinstance(contents, Contents)
    plane = _plane(contents, contents.cut) if whole and isinstance(contents.cut, Cut) else None
    solid = _solid(contents, contents.level_set) if whole and isinstance(contents.level_set, LevelSet) else None
    # Smaller pictures until the page fits; only then is something asked of the user.
    for largest, thumbnail in SIZES:
        pictures = _Pictures(contents.origin, largest, thumbnail)
        context = _alike(contents, pictures) | (_everything(contents, pictures) if whole else {})
        page = lay_out(TEMPLATE if whole else NEIGHBORS, plane=plane, solid=solid, **context)
        if len(page.encode(errors="backslashreplace")) <= MOST_BYTES:
            return page
    raise MaxAffineError("images: the page would be larger than 10 MB; show fewer test inputs")


def _plane(contents: Contents, cut: Cut) -> dict[str, Any]:
    name, anchors = _answer_name(contents, cut), [f"test input {index}" for index in cut.anchors]
    return plane_content(cut.partition, name, TEMPLATE_BYTES, anchors, contents.origin.feature_names)


def _solid(contents: Contents, found: LevelSet) -> str:
    """The surface to turn around."""
    names = contents.origin.feature_names
    solid = found.surface.solid(tuple(names) if len(names) == 3 else None)
    return solid.view(f"The surface of {found.name}, {len(found.surface)} polygons", SOLID_FACES)


def _answer_name(contents: Contents, cut: Cut) -> Callable[[int], str]:
    """What to call an answer, or a value, by its number."""

    def name(number: int) -> str:
        if contents.meaning.valued:
            return cut.values[number].name if cut.values else f"output {number}"
        if contents.meaning is Meaning.SIDE:
            return SIDES[number]
        return contents.origin.class_names[number] if contents.meaning is not Meaning.SCORES else f"output {number}"

    return name


def _alike(it: Contents | Lookup, pictures: _Pictures) -> dict[str, Any]:
    """What the section on neighbors is filled with."""
    audit = it.audit if isinstance(it.audit, Audit) else None
    near = it.neighbors if isinstance(it.neighbors, Neighborhoods) else None
    return {
        "it": it,
        "sections": (),
        "labeled": len(it.origin.class_names) > 1,
        "targets": it.origin.target_names,
        "features": it.origin.feature_names,
        "valued": it.meaning.valued,
        "unlabeled": "the targets are values" if it.origin.target_names else without_classes(it.origin.class_names),
        "near": near,
        "queries": near.queries if near else (),
        "opened": len(near.queries) if near else 0,
        "audit": audit,
        "examples": audit_rows(audit) if audit else {},
        "drawn": DRAWN,
        "cards": CARDS,
        "copies": sum(pair.copies for pair in audit.pairs) if audit else 0,
        "pictures": pictures,
        "figure_name": figure_name,
    }


def _sections(it: Contents) -> tuple[str, ...]:
    """The sections that there are: predictions are judged where there are targets, memorization where classes are."""
    missing = {"fit": it.fit is None, "generated": it.generated is None, "memorized": it.meaning.valued}
    missing["surface"] = it.level_set is None
    return tuple(name for name in SECTIONS if not missing.get(name))


def _digits_of(answer: Answer) -> int:
    """Digits after the point that tell the outputs of one answer apart."""
    lead = 0.0 if answer.runner_up is None else answer.runner_up.margin
    return digits_for([number for split in answer.splits for number in (split.inner, split.offset, split.value)], lead)


def _everything(it: Contents, pictures: _Pictures) -> dict[str, Any]:
    """What the other sections of a report are filled with."""
    cut = it.cut if isinstance(it.cut, Cut) else None
    memory = it.memory if isinstance(it.memory, Memorization) else None
    shape = it.origin.input_shape
    # Mistakes first: they are what a reader can do something about.
    fit, names = it.fit if isinstance(it.fit, Fit) else None, it.origin.feature_names
    wrong = set(fit.worst) if fit else {answer.index for answer in it.answers if answer.right is False}
    answers = sorted(it.answers, key=lambda answer: answer.index not in wrong)
    places = {answer.index: place for place, answer in enumerate(answers)}
    queries = it.neighbors.queries if isinstance(it.neighbors, Neighborhoods) else ()
    return {
        "answers": answers,
        "queries": sorted(queries, key=lambda query: places.get(query.index, len(places))),
        "opened": OPENED,
        "sections": _sections(it),
        "digits_of": _digits_of,
        **_generated(it, pictures),
        "level": it.level_set if isinstance(it.level_set, LevelSet) else None,
        "fit": fit,
        "predicted": pictures.drawing(figures.predicted_figure(fit), "Predicted against actual values") if fit else "",
        "features_of": lambda answer: features_of(answer, names),
        "slopes_in_words": slopes_in_words,
        "features_figure": lambda answer, rows: pictures.drawing(
            features_figure(answer, rows), f"What each feature of test input {answer.index} adds"
        ),
        "margin_figure": lambda answer: pictures.drawing(
            margin_figure(answer, names), f"What each feature of test input {answer.index} adds to the margin"
        ),
        "spectra": lambda answer: pictures.spectra(answer),
        "title": lambda name: it.titles.get(name, name),
        "competes": it.meaning in (Meaning.CLASSES, Meaning.SCORES),
        "memory": memory,
        "scored": memory is not None and isfinite(memory.score),
        "told": memory is not None and much_memorized(memory),
        "cut": cut,
        "overview": pictures.overview(it, cut) if cut else "",
        "areas": ", ".join(f"{name}: {percent(share)}" for name, share in cut.areas[:5]) if cut else "",
        "lines": kind_of(shape) is Kind.LINES,
        "channels": channels_of(shape),
        "slices": slice_places(shape) if is_stack(shape) else (),
        "scale": lambda answer: scale_end([split.template for split in answer.splits]),  # all of them share it
        "legend": data_uri(figures.legend_panel()),
        "histograms": pictures.histograms(memory) if memory else (),
    }


def _generated(it: Contents, pictures: _Pictures) -> dict[str, Any]:
    """What the section of a generator is filled with."""
    made = it.generated if isinstance(it.generated, Generated) else None
    if made is None:
        return {"made": None}
    surface = None if made.surface is None else figures.surface_figure(made.surface)
    return {
        "made": made,
        "stretch": pictures.drawing(figures.stretch_figure(made), "Singular values, and log volumes"),
        "samples": pictures.drawing(figures.samples_figure(made), "The most and the least typical samples"),
        "surface": pictures.drawing(surface, "The latent plane by log volume, and samples on a grid"),
    }


class _Pictures:
    """The pictures of a page in one size, as elements of HTML."""

    def __init__(self, origin: Origin, largest: int, thumbnail: int) -> None:
        shape, self.rate = origin.input_shape, origin.rate
        self.pictured = kind_of(shape) is Kind.PICTURE
        self.pixelated = self.pictured and max(shape[-2:]) < PIXELATED
        self.largest = largest
        self.thumbnail = thumbnail if self.pictured else None
        self.drawn = 0

    def panel(self, array: np.ndarray, alt: str) -> str:
        """An input as pixels, also where it is no picture."""
        return self._picture(figures.input_panel(array, self.largest), alt)

    def small(self, array: np.ndarray, alt: str) -> str:
        """A smaller one."""
        return self._picture(figures.input_panel(array, self.thumbnail), alt)

    def input(self, array: np.ndarray, alt: str) -> str:
        """An input of the network, with axes where it is no picture."""
        return self.panel(array, alt) if self.pictured else self._axes(Panel(array, "", "input", self.rate), alt, None)

    def image(self, array: np.ndarray, alt: str) -> str:
        """A picture that the network gives, in colors from its least to its largest value."""
        reach = float(np.ptp(array)) or 1.0
        return self._picture(figures.input_panel((array - array.min()) / reach, self.largest), alt)

    def signed(self, array: np.ndarray, end: float | None, alt: str) -> str:
        """A map of signed values, its ends given or those of the values."""
        end = end or scale_end([array])
        if self.pictured:
            return self._picture(figures.template_panel(array, end, self.largest), alt)
        return self._axes(Panel(array, "", "signed", self.rate), alt, end)

    def histograms(self, memory: Memorization) -> list[tuple[str, str]]:
        """Each measure of memorization: its name and its drawing."""
        words = "Histograms of {0.title} over training and test inputs: {0.label}"
        return [
            (spread.title, self._svg(spread_figure([spread], "optimum"), words.format(spread)))
            for spread in memorization_spreads(memory)
        ]

    def drawing(self, figure: Figure | None, alt: str) -> str:
        """A figure with axes; nothing of none."""
        return "" if figure is None else self._svg(figure, alt)

    def spectra(self, answer: Answer) -> str:
        """A signal and its templates by frequency; nothing of other inputs."""
        found = spectra_of(answer, self.rate)
        alt = f"Spectra of test input {answer.index} and of its templates, and what each frequency adds"
        return self.drawing(None if found is None else spectra_figure(found), alt)

    def overview(self, contents: Contents, cut: Cut) -> str:
        """The whole plane where only a part is divided, or nothing."""
        inputs = {answer.index: answer.input for answer in contents.answers}
        return overview_svg(cut, inputs, _answer_name(contents, cut), self.pictured)

    def _picture(self, png: bytes, alt: str) -> str:
        kind = ' class="pixels"' if self.pixelated else ""
        return f'<img src="{data_uri(png)}" alt="{escape(alt)}"{kind}>'

    def _axes(self, panel: Panel, alt: str, end: float | None) -> str:
        return self._svg(panel_figure([[panel]], scale=end), alt)

    def _svg(self, figure: Figure, alt: str) -> str:
        # Numbered, since the names inside one ``svg`` element hold all over the page.
        self.drawn += 1
        return inline_svg(figure, alt, f"drawing-{self.drawn}")
