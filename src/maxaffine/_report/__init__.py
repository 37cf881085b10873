"""Figures and one self-contained page about a captured network; the numbers come from the other rooms."""

from maxaffine._report.collect import assemble
from maxaffine._report.contents import Contents
from maxaffine._report.contours import Contours, contours_of
from maxaffine._report.coordinates import CoordinatePlane, coordinate_plane
from maxaffine._report.drift import drift_figure
from maxaffine._report.extras import require
from maxaffine._report.facts import Choices, LeftOut
from maxaffine._report.files import (
    ARRAYS,
    FIGURES,
    PAGE,
    RESULTS,
    WEIGHTS,
    files_of,
    page_of,
    staged,
    staged_page,
    write,
    write_lookup,
)
from maxaffine._report.hierarchy import hierarchy_figure
from maxaffine._report.labels import LabelOrder, label_order
from maxaffine._report.lookup import look_up, lookup_text
from maxaffine._report.plane_page import MOST_CELLS, plane_page
from maxaffine._report.planes import COLORINGS, plane_figure
from maxaffine._report.results import as_json, as_text
from maxaffine._report.sections.subject import like_model

__all__ = [
    "ARRAYS",
    "COLORINGS",
    "FIGURES",
    "MOST_CELLS",
    "PAGE",
    "RESULTS",
    "WEIGHTS",
    "Choices",
    "Contents",
    "Contours",
    "CoordinatePlane",
    "LabelOrder",
    "LeftOut",
    "as_json",
    "as_text",
    "assemble",
    "contours_of",
    "coordinate_plane",
    "drift_figure",
    "files_of",
    "hierarchy_figure",
    "label_order",
    "like_model",
    "look_up",
    "lookup_text",
    "page_of",
    "plane_figure",
    "plane_page",
    "require",
    "staged",
    "staged_page",
    "write",
    "write_lookup",
]
