"""Figures and one self-contained page about a captured network; the numbers come from the other rooms."""

from maxaffine.report.contents import assemble, like_model
from maxaffine.report.drift import drift_figure
from maxaffine.report.extras import require
from maxaffine.report.facts import Choices, Contents
from maxaffine.report.files import ARRAYS, FIGURES, PAGE, RESULTS, WEIGHTS, staged, write, write_lookup
from maxaffine.report.hierarchy import hierarchy_figure
from maxaffine.report.lookup import look_up, lookup_text
from maxaffine.report.plane_page import MOST_CELLS, plane_page
from maxaffine.report.planes import COLOURINGS, plane_figure
from maxaffine.report.results import as_json, as_text

__all__ = [
    "ARRAYS",
    "COLOURINGS",
    "MOST_CELLS",
    "FIGURES",
    "RESULTS",
    "PAGE",
    "WEIGHTS",
    "Choices",
    "Contents",
    "as_json",
    "as_text",
    "assemble",
    "drift_figure",
    "hierarchy_figure",
    "like_model",
    "look_up",
    "plane_figure",
    "plane_page",
    "lookup_text",
    "require",
    "staged",
    "write",
    "write_lookup",
]
