"""Figures and one self-contained page about a captured network; the numbers come from the other rooms."""

from maxaffine._report.collect import assemble
from maxaffine._report.contents import Contents
from maxaffine._report.contours import Contours, contours_of
from maxaffine._report.coordinates import CoordinatePlane, coordinate_plane
from maxaffine._report.drawn_plane import DrawnPlane, Window
from maxaffine._report.extras import require
from maxaffine._report.facts import Choices, LeftOut
from maxaffine._report.files import (
    ARRAYS,
    FIGURES,
    PAGE,
    RESULTS,
    WEIGHTS,
    staged,
    write,
)
from maxaffine._report.labels import LabelOrder, label_order
from maxaffine._report.layout import DRAWN
from maxaffine._report.lookup import look_up, lookup_text
from maxaffine._report.plane_page import MOST_CELLS, plane_page
from maxaffine._report.planes import COLORINGS, plane_figure
from maxaffine._report.report import Report, report
from maxaffine._report.results import as_json, as_text
from maxaffine._report.subject import Meaning, Subject, find_subject, like_model, spaced
from maxaffine._report.wire import array, number

__all__ = [
    "ARRAYS",
    "COLORINGS",
    "DRAWN",
    "FIGURES",
    "MOST_CELLS",
    "PAGE",
    "RESULTS",
    "WEIGHTS",
    "Choices",
    "Contents",
    "Contours",
    "CoordinatePlane",
    "DrawnPlane",
    "LabelOrder",
    "LeftOut",
    "Meaning",
    "Report",
    "Subject",
    "Window",
    "array",
    "as_json",
    "as_text",
    "assemble",
    "contours_of",
    "coordinate_plane",
    "find_subject",
    "label_order",
    "like_model",
    "look_up",
    "number",
    "lookup_text",
    "plane_figure",
    "plane_page",
    "report",
    "require",
    "spaced",
    "staged",
    "write",
]
